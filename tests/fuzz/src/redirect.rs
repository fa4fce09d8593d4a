//! What the eBPF programs decide, against the same rules written with the standard library.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sotto_ebpf::abi::{Address, HBONE_PORT, OUTBOUND_PORT, PLAINTEXT_PORT, PodAddresses, Role};
use sotto_ebpf::decide::redirect::{Inbound, Outbound, forget_when_closed, from_inside, inbound, outbound};

/// A destination, a source, the pod's two addresses, and what else the kernel shows.
const LENGTH: usize = 16 + 16 + 4 + 16 + 4;

pub(crate) fn redirect(data: &[u8]) {
    let Some((input, _)) = data.split_at_checked(LENGTH) else { return };
    let word = |at: usize| u32::from_ne_bytes([input[at], input[at + 1], input[at + 2], input[at + 3]]);
    let address = |at: usize| Address([word(at), word(at + 4), word(at + 8), word(at + 12)]);
    let port = u16::from_be_bytes([input[52], input[53]]);
    let (destination, source) = (address(0), address(16));
    let pod = PodAddresses { families: u32::from(input[54]), v4: word(32), v6: address(36) };
    check_outbound(destination, port, &pod);
    for address in [destination, source] {
        assert_eq!(Address::from_ip(address.to_ip()), address);
    }
    let arrived_on_loopback = input[55] & 1 != 0;
    let inside = from_inside(arrived_on_loopback, destination, source);
    assert_eq!(inside, arrived_on_loopback || destination == source || is_loopback(source.to_ip()));
    check_inbound(port, inside);
    assert_eq!(forget_when_closed(u32::from(input[55])), ![4, 5, 11].contains(&input[55]));
}

fn check_outbound(destination: Address, port: u16, pod: &PodAddresses) {
    let ip = destination.to_ip();
    let own = match ip {
        IpAddr::V4(_) => (pod.families & 1 != 0).then(|| Ipv4Addr::from(pod.v4.to_ne_bytes()).into()),
        IpAddr::V6(_) => (pod.families & 2 != 0).then(|| pod.v6.to_ip()),
    };
    let expected = match own {
        Some(own) if own == ip && port == OUTBOUND_PORT => Outbound::AlreadyCaptured,
        Some(own) if own == ip => Outbound::LeaveAlone,
        _ if stays_here(ip) => Outbound::LeaveAlone,
        Some(own) => Outbound::Capture(Address::from_ip(own)),
        None => Outbound::Refuse,
    };
    assert_eq!(outbound(destination, port, pod), expected, "{ip} {port} {pod:?}");
}

fn check_inbound(port: u16, inside: bool) {
    let expected = match port {
        HBONE_PORT => Inbound::Listener(Role::Hbone),
        PLAINTEXT_PORT => Inbound::Refuse,
        OUTBOUND_PORT if inside => Inbound::Listener(Role::Outbound),
        OUTBOUND_PORT => Inbound::Refuse,
        _ if inside => Inbound::Application,
        _ => Inbound::Listener(Role::Plaintext),
    };
    assert_eq!(inbound(port, inside), expected);
}

fn stays_here(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    link_local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast()
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let bytes = |text: &str| match text.parse().expect("an address") {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => Ipv6Addr::octets(&v6),
    };
    let pod = ("10.0.0.1", "fd00::1");
    let mut seeds = Vec::new();
    for destination in [
        "10.0.0.1",
        "10.0.0.2",
        "127.0.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "fd00::1",
        "fd00::2",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
        "::1.2.3.4",
    ] {
        for (port, families) in [(OUTBOUND_PORT, 3), (HBONE_PORT, 1), (PLAINTEXT_PORT, 2), (80, 0)] {
            let mut seed = [bytes(destination), bytes(pod.0)].concat();
            seed.extend(&bytes(pod.0)[12..]);
            seed.extend(bytes(pod.1));
            seed.extend(port.to_be_bytes());
            seed.extend([families, 4]);
            seeds.push(seed);
        }
    }
    seeds
}
