//! Peers that break the protocol: each is found out at once.

use super::super::frame::{Header, Kind};
use super::super::machine::{EARLY, FIRST_CREDIT};
use super::*;

fn frame(stream: u32, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Header::encode(stream, kind, payload.len()).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

fn hello() -> Vec<u8> {
    frame(0, Kind::Hello, &[])
}

fn open(stream: u32) -> Vec<u8> {
    frame(stream, Kind::Open, b"\x01\x00\x0b10.0.0.1:80")
}

/// What a server, or a client with one stream open, says to these frames.
fn check(side: Side, frames: &[Vec<u8>], expected: &str) {
    let mut machine = machine(side);
    if side == Side::Client {
        let id = machine.open(&crate::drivers::tunnel::ConnectRequest::to(
            "10.0.0.1:80".parse::<crate::model::authority::Authority>().unwrap(),
        ));
        assert_eq!(id, Ok(1));
    }
    let bytes = frames.concat();
    let result = machine.receive(&bytes, 0..bytes.len(), Instant::now(), &mut Vec::new());
    let said = result.expect_err(expected).to_string();
    assert!(said.contains(expected), "{expected}: {said}");
}

#[test]
fn every_violation_is_named() {
    let much = vec![0; FIRST_CREDIT as usize + 1];
    check(Side::Server, &[open(1)], "before HELLO");
    check(Side::Server, &[hello(), hello()], "second HELLO");
    check(Side::Server, &[hello(), open(3), open(3)], "not the client's next");
    check(Side::Server, &[hello(), open(3), open(2)], "not the client's next");
    check(Side::Server, &[hello(), frame(1, Kind::Fin, &[])], "never opened");
    check(Side::Server, &[hello(), frame(9, Kind::Data, b"x")], "never opened");
    let early = frame(1, Kind::Data, &[0; EARLY]);
    check(Side::Server, &[hello(), open(1), early, frame(1, Kind::Data, b"x")], "before the answer");
    check(Side::Server, &[hello(), open(1), frame(1, Kind::Accept, &[])], "nobody waits for");
    check(Side::Server, &[hello(), open(1), frame(1, Kind::Fin, &[])], "not open");
    check(Side::Server, &[hello(), frame(1, Kind::Open, &[1, 0, 99, 0])], "longer than its frame");
    check(Side::Client, &[hello(), open(2)], "not the client's next");
    check(Side::Client, &[hello(), frame(1, Kind::Data, b"x")], "outside of an open stream");
    let accept = frame(1, Kind::Accept, &[]);
    check(Side::Client, &[hello(), accept.clone(), accept.clone()], "nobody waits for");
    check(Side::Client, &[hello(), accept.clone(), frame(1, Kind::Data, &much)], "more data than");
    let fin = frame(1, Kind::Fin, &[]);
    check(Side::Client, &[hello(), accept.clone(), fin.clone(), fin.clone()], "not open");
    check(Side::Client, &[hello(), accept, fin, frame(1, Kind::Data, b"x")], "outside of an open stream");
    let away = |last: u32| frame(0, Kind::GoAway, &[last.to_be_bytes(), [0; 4]].concat());
    check(Side::Client, &[hello(), away(3), away(4)], "takes back");
    let pings = vec![frame(0, Kind::Ping, &[0; 8]); 20_000];
    check(Side::Client, &[vec![hello()], pings].concat(), "reads answers");
}

#[test]
fn any_bytes_are_survived() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..3000 {
        let side = if round % 2 == 0 { Side::Client } else { Side::Server };
        let mut machine = machine(side);
        let mut bytes = hello();
        for _ in 0..random.usize(1..20) {
            let length = random.usize(0..12);
            let mut header = Header::encode(random.u32(0..4), Kind::Fin, length);
            header[4] = random.u8(0..12);
            bytes.extend(header);
            bytes.extend((0..length).map(|_| random.u8(..)));
        }
        let mut events = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + random.usize(1..40)).min(bytes.len());
            if machine.receive(&bytes, at..end, Instant::now(), &mut events).is_err() {
                break;
            }
            at = end;
        }
    }
}
