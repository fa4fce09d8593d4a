//! Every rule of [`super`], for IPv4, IPv6 and v4-mapped addresses.

use super::direct::{Totals, ended_in_order, pick, speaks_for_itself, totals};
use super::redirect::{Inbound, Outbound, forget_when_closed, from_inside, inbound, outbound};
use super::tcp;
use crate::abi::{Address, HBONE_PORT, OUTBOUND_PORT, PLAINTEXT_PORT, PodAddresses, Role};

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

#[test]
fn every_endpoint_is_picked_as_often_as_another() {
    for count in [1, 2, 3, 7, 100, 4096] {
        let mut picked = vec![0u32; count as usize];
        const DRAWS: u32 = 1 << 16;
        for draw in 0..DRAWS {
            picked[pick(draw << 16, count) as usize] += 1;
        }
        let share = DRAWS / count;
        assert!(picked.iter().all(|times| (share..=share + 1).contains(times)), "{count}: {picked:?}");
        assert_eq!(pick(u32::MAX, count), count - 1);
    }
}

#[test]
fn a_pod_speaks_from_its_own_address_or_leaves_the_choice() {
    let both = pod(true, true);
    for (source, destination, expected) in [
        ("0.0.0.0", "10.0.0.6", true),
        ("::", "fd00::6", true),
        ("::", "10.0.0.6", true),
        (OWN[0], "10.0.0.6", true),
        ("::ffff:10.0.0.5", "::ffff:10.0.0.6", true),
        (OWN[1], "fd00::6", true),
        ("10.0.0.7", "10.0.0.6", false),
        ("127.0.0.1", "10.0.0.6", false),
        ("fd00::7", "fd00::6", false),
        ("::1", "fd00::6", false),
    ] {
        assert_eq!(speaks_for_itself(ip(source), ip(destination), &both), expected, "{source} to {destination}");
    }
    assert!(!speaks_for_itself(ip(OWN[0]), ip("10.0.0.6"), &pod(false, true)), "an address of a family that it lacks");
}

#[test]
fn bytes_are_counted_without_what_opens_and_ends_a_connection() {
    const ESTABLISHED: u32 = 1;
    const SENT: u64 = 100;
    const RECEIVED: u64 = 40;
    for (what, acknowledged, received, at_end, old) in [
        ("reset while open", SENT + 1, RECEIVED, 0, ESTABLISHED),
        ("reset after the server's end", SENT + 1, RECEIVED + 1, 0, tcp::CLOSE_WAIT),
        ("the server ends first", SENT + 2, RECEIVED + 1, 0, tcp::LAST_ACK),
        ("both end at once", SENT + 2, RECEIVED + 1, 0, tcp::CLOSING),
        (
            "the client closes, the server's end comes with the acknowledgement",
            SENT + 2,
            RECEIVED + 1,
            RECEIVED,
            tcp::FIN_WAIT_2,
        ),
        ("the client ends its side, the rest comes later", SENT + 2, RECEIVED + 1, 7, tcp::FIN_WAIT_2),
        ("the client closes and is not there for the server's end", SENT + 2, RECEIVED, RECEIVED, tcp::FIN_WAIT_2),
        ("the client ends, and nobody acknowledges it", SENT + 1, RECEIVED, 0, tcp::FIN_WAIT_1),
    ] {
        let totals = totals(acknowledged, received, at_end, old);
        assert_eq!(totals, Totals { sent: SENT, received: RECEIVED }, "{what}");
    }
    assert_eq!(totals(0, 0, 0, tcp::SYN_SENT), Totals { sent: 0, received: 0 }, "never answered");
}

#[test]
fn only_a_connection_that_somebody_ended_ends_in_order() {
    for old in [tcp::FIN_WAIT_2, tcp::CLOSING, tcp::LAST_ACK] {
        assert!(ended_in_order(old), "{old}");
    }
    for old in [1, tcp::SYN_SENT, tcp::FIN_WAIT_1, tcp::CLOSE_WAIT] {
        assert!(!ended_in_order(old), "{old}");
    }
}
