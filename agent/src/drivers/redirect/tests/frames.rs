//! What *hold* makes of frames that no well-behaved stack sends.

use std::os::fd::AsFd;

use super::super::{OUTBOUND_PORT, Role};
use super::lab::Lab;
use crate::sys::bpf::run_on_frame;

const PASS: i32 = -1;
const DROP: i32 = 2;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIN: u8 = 0x01;
const ECN_SETUP: u8 = 0xc0;

/// An Ethernet frame with IPv4, `options` words of options, and TCP to the pod.
fn v4(options: u8, protocol: u8, port: u16, flags: u8) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00]);
    frame.extend([0x45 + options, 0, 0, 40 + options * 4, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 99, 0, 1, 10, 99, 0, 1]);
    frame.extend(vec![1; usize::from(options) * 4]);
    frame.extend(tcp(port, flags));
    frame
}

/// The same with IPv6.
fn v6(next_header: u8, port: u16, flags: u8) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, next_header, 64]);
    let pod = [0xfd, 0x99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    frame.extend(pod);
    frame.extend(pod);
    frame.extend(tcp(port, flags));
    frame
}

fn tcp(port: u16, flags: u8) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![0x9c, 0x40, high, low, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]
}

#[test]
fn hold_takes_syns_to_its_port_and_nothing_else() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load();
    let cut = |mut frame: Vec<u8>, length: usize| {
        frame.truncate(length);
        frame
    };
    let mut arp = v4(0, 6, OUTBOUND_PORT, SYN);
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let cases = [
        ("IPv4", v4(0, 6, OUTBOUND_PORT, SYN), DROP),
        ("IPv6", v6(6, OUTBOUND_PORT, SYN), DROP),
        ("with ECN", v4(0, 6, OUTBOUND_PORT, SYN | ECN_SETUP), DROP),
        ("with IP options", v4(10, 6, OUTBOUND_PORT, SYN), DROP),
        ("SYN-ACK", v4(0, 6, OUTBOUND_PORT, SYN | ACK), PASS),
        ("ACK", v6(6, OUTBOUND_PORT, ACK), PASS),
        ("FIN", v4(0, 6, OUTBOUND_PORT, FIN | ACK), PASS),
        ("another port", v4(0, 6, OUTBOUND_PORT + 1, SYN), PASS),
        ("the port's bytes swapped", v6(6, OUTBOUND_PORT.swap_bytes(), SYN), PASS),
        ("UDP", v4(0, 17, OUTBOUND_PORT, SYN), PASS),
        ("UDP in IPv6", v6(17, OUTBOUND_PORT, SYN), PASS),
        ("an extension header first: refused later, not held", v6(60, OUTBOUND_PORT, SYN), PASS),
        ("ARP", arp, PASS),
        ("cut in the TCP header", cut(v4(0, 6, OUTBOUND_PORT, SYN), 14 + 20 + 13), PASS),
        ("cut behind the IPv6 header", cut(v6(6, OUTBOUND_PORT, SYN), 14 + 40), PASS),
        ("options that the frame does not have", cut(v4(10, 6, OUTBOUND_PORT, SYN), 14 + 20), PASS),
    ];
    let held = |redirect: &mut super::super::Redirect, frame: &[u8]| {
        run_on_frame(redirect.programs.hold().unwrap().fd().unwrap().as_fd(), frame).unwrap()
    };
    for (name, frame, expected) in &cases {
        assert_eq!(held(&mut redirect, frame), *expected, "{name}");
    }
    assert_eq!(redirect.counters().unwrap().held_syns, 4);
    // With a listener none is held.
    let _agent = lab.serve(&mut redirect, Role::Outbound);
    for (name, frame, _) in &cases {
        assert_eq!(held(&mut redirect, frame), PASS, "{name}");
    }
}
