//! The state of a `sotto/1` tunnel with a hostile peer.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use sotto::drivers::tunnel::ConnectRequest;
use sotto::drivers::tunnel::mux::frame::{Header, Kind, Parser};
use sotto::drivers::tunnel::mux::machine::{EARLY, Event, Limits, Machine, Side};
use sotto::model::authority::Authority;

pub(crate) const WORDS: &[&str] =
    &["\u{1}\0\u{b}10.0.0.1:80", "\u{2}\0\u{e}service.name=a", "\0\0\0\u{1}", "\u{7}\0\u{4}\0\0\u{3}\u{8}"];

/// How an input is played; its first byte.
const SERVES: u8 = 0x01;
/// HELLO comes first, so that mutation needs not find it.
const GREETED: u8 = 0x02;
/// Everything comes in small pieces.
const SLOW: u8 = 0x04;
/// Requests are refused.
const REFUSES: u8 = 0x08;
/// The application reads nothing.
const STALLS: u8 = 0x10;

/// Requests are not answered.
const WAITS: u8 = 0x20;

const MOST_STREAMS: u32 = 4;

pub(crate) fn mux(data: &[u8]) {
    let Some((&play, input)) = data.split_first() else { return };
    let now = Instant::now();
    let side = if play & SERVES != 0 { Side::Server } else { Side::Client };
    let limits = Limits {
        max_streams: MOST_STREAMS,
        largest_credit: 1 << 20,
        hello: Duration::from_secs(10),
        keepalive_interval: Duration::from_secs(10),
        keepalive_timeout: Duration::from_secs(20),
    };
    let mut machine = Machine::<()>::new(side, limits, now);
    if side == Side::Client {
        for _ in 0..2 {
            machine.open(&ConnectRequest::to(nowhere())).expect("a new tunnel takes streams");
        }
    }
    let mut bytes = if play & GREETED != 0 { frame(0, Kind::Hello, &[]) } else { Vec::new() };
    bytes.extend_from_slice(input);
    let step = if play & SLOW != 0 { 3 } else { bytes.len().max(1) };
    let (mut said, mut early) = (Vec::new(), HashMap::new());
    let mut at = 0;
    while at < bytes.len() {
        let end = (at + step).min(bytes.len());
        let mut events = Vec::new();
        if machine.receive(&bytes, at..end, now, &mut events).is_err() {
            break;
        }
        events.into_iter().for_each(|event| act(&mut machine, event, play, (at..end, &mut early)));
        assert!(machine.live() <= MOST_STREAMS as usize, "more streams than were allowed");
        said.extend(machine.take_output());
        at = end;
    }
    assert!(said.len() <= 64 * bytes.len() + 4096, "a peer gets many times back what it sends");
    well_formed(&said);
}

fn act(machine: &mut Machine<()>, event: Event, play: u8, (piece, early): (Range<usize>, &mut HashMap<u32, usize>)) {
    match event {
        Event::Open(id, _) if play & WAITS != 0 => drop(early.insert(id, 0)),
        Event::Open(id, _) if play & REFUSES != 0 => machine.release(id),
        Event::Open(id, _) => drop(machine.accept(id, None)),
        Event::Data(id, range) => {
            assert!(piece.start <= range.start && range.end <= piece.end, "data that did not come");
            if let Some(early) = early.get_mut(&id) {
                *early += range.len();
                assert!(*early <= EARLY, "more than may be sent before the answer");
                return;
            }
            if play & STALLS != 0 {
                machine.stalled(id);
            } else {
                machine.consumed(id, range.len());
            }
        }
        Event::Finished(id) => {
            drop(machine.finish(id));
            machine.release(id);
        }
        Event::Accepted(id, _) => drop(machine.credit(id)),
        Event::Refused(id, _) | Event::Reset(id, _) => machine.release(id),
        Event::Credit(_) | Event::GoingAway => {}
    }
}

/// What we say is what the other side understands.
fn well_formed(said: &[u8]) {
    let mut parser = Parser::default();
    let mut at = 0;
    while parser.next(said, &mut at, said.len()).expect("we break no rule ourselves").is_some() {}
    assert_eq!(at, said.len());
}

fn nowhere() -> Authority {
    "10.0.0.1:80".parse().expect("an authority")
}

fn frame(stream: u32, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Header::encode(stream, kind, payload.len()).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let open = |stream| frame(stream, Kind::Open, b"\x01\0\x0b10.0.0.1:80\x02\0\x0eservice.name=a");
    let whole = [
        frame(0, Kind::Hello, &[7, 0, 4, 0, 0, 3, 232]),
        open(1),
        frame(1, Kind::Data, b"hello"),
        frame(1, Kind::Fin, &[]),
        frame(0, Kind::Ping, &[1; 8]),
        open(3),
        frame(3, Kind::Reset, &[0, 0, 0, 8]),
        frame(0, Kind::GoAway, &[0; 8]),
    ]
    .concat();
    let answers = [
        frame(1, Kind::Accept, b"\x02\0\x0eservice.name=a"),
        frame(1, Kind::Data, &[7; 300]),
        frame(1, Kind::Credit, &[0, 1, 0, 0]),
        frame(2, Kind::Refuse, b"\x05\0\x02\x01\x91\x06\0\x06denied"),
        frame(1, Kind::Fin, &[]),
        frame(0, Kind::GoAway, &[0, 0, 0, 1, 0, 0, 0, 0]),
    ]
    .concat();
    let play = |play: u8, bytes: &[u8]| [&[play], bytes].concat();
    vec![
        play(SERVES, &whole),
        play(SERVES | SLOW, &whole),
        play(SERVES | GREETED | STALLS, &whole[15..]),
        play(GREETED, &answers),
        play(GREETED | SLOW, &answers),
        play(SERVES | GREETED | REFUSES, &open(9)),
    ]
}
