//! What happens to a connection: pure functions of what the kernel shows the programs, tested on the host.

use crate::abi::{Address, HBONE_PORT, OUTBOUND_PORT, PLAINTEXT_PORT, PodAddresses, Role};

/// What becomes of an application's connect() in an enrolled pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// It goes where it wants; what an earlier attempt on the same socket left behind is void.
    LeaveAlone,
    /// It was rewritten already, by the same program attached a second time while one agent replaces another.
    AlreadyCaptured,
    /// It goes to this address of the pod, port [`OUTBOUND_PORT`].
    Capture(Address),
    /// It fails: the pod has no address of that family, so it cannot be captured, and it must not leave as it is.
    Refuse,
}

/// Decides about a connect() to `destination`, `port`.
///
/// Left alone is what cannot be another workload: loopback, the unspecified address (the kernel reads it as loopback),
/// the pod's own addresses, link-local (the cloud's metadata service lives there) and multicast.
#[inline(always)]
#[must_use]
pub fn outbound(destination: Address, port: u16, pod: &PodAddresses) -> Outbound {
    let own = if destination.v4_word().is_some() { pod.address_v4() } else { pod.address_v6() };
    if own == Some(destination) {
        return if port == OUTBOUND_PORT { Outbound::AlreadyCaptured } else { Outbound::LeaveAlone };
    }
    if stays_here(destination) {
        return Outbound::LeaveAlone;
    }
    own.map_or(Outbound::Refuse, Outbound::Capture)
}

/// Whether an address is loopback, unspecified, link-local or multicast.
#[inline(always)]
fn stays_here(address: Address) -> bool {
    if let Some(word) = address.v4_word() {
        let v4 = u32::from_be(word);
        return v4 == 0
            || v4 >> 24 == 127
            || v4 >> 16 == 0xa9fe // 169.254.0.0/16
            || v4 >> 28 == 0xe // 224.0.0.0/4
            || v4 == u32::MAX;
    }
    let first = u32::from_be(address.0[0]);
    let leading_zeroes = address.0[0] == 0 && address.0[1] == 0 && address.0[2] == 0;
    first >> 24 == 0xff // ff00::/8
        || first >> 22 == 0xfe80 >> 6 // fe80::/10
        || leading_zeroes && u32::from_be(address.0[3]) <= 1 // :: and ::1
}

/// What becomes of a connection that arrives in a pod's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// It goes to one of the agent's listeners.
    Listener(Role),
    /// It goes to whoever listens in the pod.
    Application,
    /// It is refused.
    Refuse,
}

/// Decides about a connection to `local_port`.
#[inline(always)]
#[must_use]
pub fn inbound(local_port: u16, from_inside: bool) -> Inbound {
    match (local_port, from_inside) {
        (HBONE_PORT, _) => Inbound::Listener(Role::Hbone),
        (OUTBOUND_PORT, true) => Inbound::Listener(Role::Outbound),
        (OUTBOUND_PORT, false) | (PLAINTEXT_PORT, _) => Inbound::Refuse,
        (_, true) => Inbound::Application,
        (_, false) => Inbound::Listener(Role::Plaintext),
    }
}

/// Whether a connection comes from the pod itself.
///
/// The device alone does not say: what a pod sends to its own address crosses `lo`, but the kernel reports the device
/// that the address is on. So does the source: the kernel takes no packet from outside that claims a loopback address,
/// nor (IPv4) one of the pod's own; with IPv6 such a claim gains nothing, since the answer stays in the pod.
#[inline(always)]
#[must_use]
pub fn from_inside(arrived_on_loopback: bool, local: Address, remote: Address) -> bool {
    arrived_on_loopback || remote == local || is_loopback(remote)
}

#[inline(always)]
fn is_loopback(address: Address) -> bool {
    match address.v4_word() {
        Some(word) => u32::from_be(word) >> 24 == 127,
        None => address.0[0] == 0 && address.0[1] == 0 && address.0[2] == 0 && u32::from_be(address.0[3]) == 1,
    }
}

/// Whether the entry about a captured socket goes away when the socket closes, coming from TCP state `old` (numbers as
/// in the kernel's `tcp_states.h`).
///
/// It stays after FIN-WAIT-1, FIN-WAIT-2 and CLOSING: an application that connects, writes and closes at once leaves
/// a connection behind that the agent has yet to accept, and its data must still arrive.
#[inline(always)]
#[must_use]
pub fn forget_when_closed(old: u32) -> bool {
    const FIN_WAIT_1: u32 = 4;
    const FIN_WAIT_2: u32 = 5;
    const CLOSING: u32 = 11;
    !matches!(old, FIN_WAIT_1 | FIN_WAIT_2 | CLOSING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Address {
        Address::from_ip(text.parse().unwrap())
    }

    fn pod(v4: bool, v6: bool) -> PodAddresses {
        PodAddresses::new(v4.then(|| "10.0.0.5".parse().unwrap()), v6.then(|| "fd00::5".parse().unwrap()))
    }

    const OWN: [&str; 2] = ["10.0.0.5", "fd00::5"];

    /// Each is an address that no other pod can have, and the first and last of its range.
    const STAYS: [&str; 22] = [
        "0.0.0.0",
        "127.0.0.0",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "224.0.0.0",
        "239.255.255.255",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::",
        "fe80::1",
        "febf:ffff::",
        "ff00::",
        "ff02::1",
        "ffff::1",
        "::ffff:0.0.0.0",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:224.0.0.1",
    ];

    /// Neighbours of those ranges, and others.
    const GOES: [&str; 24] = [
        "0.0.0.1",
        "1.2.3.4",
        "10.0.0.4",
        "10.0.0.6",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.16.0.1",
        "192.168.0.1",
        "223.255.255.255",
        "240.0.0.0",
        "255.255.255.254",
        "::2",
        "::1:0:1",
        "1::1",
        "2001:db8::1",
        "64:ff9b::1.2.3.4",
        "fe7f:ffff::",
        "fec0::",
        "fdff::",
        "fd00::6",
        "::ffff:10.0.0.6",
        "::1.2.3.4",
    ];

    #[test]
    fn what_may_be_another_workload_is_captured() {
        for destination in GOES.map(ip) {
            let own = ip(if destination.v4_word().is_some() { OWN[0] } else { OWN[1] });
            for port in [1, 80, OUTBOUND_PORT, HBONE_PORT, 65535] {
                assert_eq!(
                    outbound(destination, port, &pod(true, true)),
                    Outbound::Capture(own),
                    "{}",
                    destination.to_ip()
                );
            }
        }
    }

    #[test]
    fn what_stays_here_is_left_alone_whatever_the_pod_has() {
        for destination in STAYS.map(ip) {
            for (v4, v6) in [(true, true), (true, false), (false, true), (false, false)] {
                for port in [0, 80, OUTBOUND_PORT] {
                    assert_eq!(
                        outbound(destination, port, &pod(v4, v6)),
                        Outbound::LeaveAlone,
                        "{} {v4} {v6}",
                        destination.to_ip()
                    );
                }
            }
        }
    }

    #[test]
    fn the_pods_own_addresses_are_left_alone() {
        for own in [OWN[0], OWN[1], "::ffff:10.0.0.5"].map(ip) {
            for port in [80, PLAINTEXT_PORT, HBONE_PORT] {
                assert_eq!(outbound(own, port, &pod(true, true)), Outbound::LeaveAlone);
            }
            assert_eq!(outbound(own, OUTBOUND_PORT, &pod(true, true)), Outbound::AlreadyCaptured);
        }
    }

    #[test]
    fn a_capture_is_stable_under_a_second_run() {
        for destination in GOES.map(ip) {
            let Outbound::Capture(to) = outbound(destination, 80, &pod(true, true)) else { panic!("not captured") };
            assert_eq!(outbound(to, OUTBOUND_PORT, &pod(true, true)), Outbound::AlreadyCaptured);
        }
    }

    #[test]
    fn a_family_that_the_pod_lacks_is_refused() {
        for destination in GOES.map(ip) {
            let is_v4 = destination.v4_word().is_some();
            assert_eq!(outbound(destination, 80, &pod(!is_v4, is_v4)), Outbound::Refuse, "{}", destination.to_ip());
            assert_eq!(outbound(destination, 80, &pod(false, false)), Outbound::Refuse);
            assert!(matches!(outbound(destination, 80, &pod(is_v4, !is_v4)), Outbound::Capture(_)));
        }
        // The address of a family that is not there is all zeroes: it must not pass for the pod's own.
        assert_eq!(outbound(ip("::"), OUTBOUND_PORT, &pod(true, false)), Outbound::LeaveAlone);
        assert_eq!(outbound(ip("0.0.0.0"), OUTBOUND_PORT, &pod(false, true)), Outbound::LeaveAlone);
    }

    #[test]
    fn inbound_ports() {
        use Inbound::{Application, Listener, Refuse};
        for (port, from_inside, expected) in [
            (HBONE_PORT, false, Listener(Role::Hbone)),
            (HBONE_PORT, true, Listener(Role::Hbone)),
            (OUTBOUND_PORT, true, Listener(Role::Outbound)),
            (OUTBOUND_PORT, false, Refuse),
            (PLAINTEXT_PORT, false, Refuse),
            (PLAINTEXT_PORT, true, Refuse),
            (80, false, Listener(Role::Plaintext)),
            (80, true, Application),
            (0, false, Listener(Role::Plaintext)),
            (65535, false, Listener(Role::Plaintext)),
            (15007, true, Application),
        ] {
            assert_eq!(inbound(port, from_inside), expected, "{port} {from_inside}");
        }
    }

    #[test]
    fn inside_is_what_only_the_pod_can_claim() {
        for (on_loopback, local, remote, expected) in [
            (true, "127.0.0.1", "127.0.0.1", true),
            (true, "::1", "::1", true),
            (false, OWN[0], OWN[0], true),
            (false, OWN[1], OWN[1], true),
            (false, OWN[0], "127.0.0.1", true),
            (false, OWN[0], "127.255.0.9", true),
            (false, OWN[1], "::1", true),
            (false, OWN[0], "10.0.0.6", false),
            (false, OWN[0], "128.0.0.1", false),
            (false, OWN[1], "fd00::6", false),
            (false, OWN[1], "::2", false),
            (false, OWN[1], "::", false),
            (false, OWN[1], "1::1", false),
        ] {
            assert_eq!(from_inside(on_loopback, ip(local), ip(remote)), expected, "{local} {remote}");
        }
    }

    #[test]
    fn what_the_agent_has_yet_to_accept_is_remembered() {
        const ESTABLISHED: u32 = 1;
        const SYN_SENT: u32 = 2;
        const CLOSE_WAIT: u32 = 8;
        const LAST_ACK: u32 = 9;
        for old in [ESTABLISHED, SYN_SENT, CLOSE_WAIT, LAST_ACK] {
            assert!(forget_when_closed(old), "{old}");
        }
        for old in [4, 5, 11] {
            assert!(!forget_when_closed(old), "{old}");
        }
    }
}
