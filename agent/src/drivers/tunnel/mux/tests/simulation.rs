//! Two ends that do whatever comes to mind, with what they say cut and delayed at random: every byte arrives once and in order,
//! nobody sends more than it may, nobody is accused.

use std::collections::{BTreeMap, VecDeque};

use super::super::machine::EARLY;
use super::*;
use crate::drivers::tunnel::{ConnectRequest, Refusal, ResetReason};
use crate::model::authority::Authority;

/// What one end has done in a stream.
#[derive(Default)]
struct Side1 {
    sent: Vec<u8>,
    received: Vec<u8>,
    unread: usize,
    finished: bool,
    /// While the stream is not answered: what may be sent all the same.
    early: Option<usize>,
    peer_finished: bool,
}

struct End {
    machine: Machine<()>,
    streams: BTreeMap<u32, Side1>,
    asked: VecDeque<u32>,
    /// On the way to the other end.
    wire: VecDeque<u8>,
}

impl End {
    fn new(side: Side) -> Self {
        Self { machine: machine(side), streams: BTreeMap::new(), asked: VecDeque::new(), wire: VecDeque::new() }
    }

    fn flush(&mut self) {
        self.wire.extend(self.machine.take_output());
    }

    fn act(&mut self, side: Side, random: &mut fastrand::Rng) {
        let request = ConnectRequest::to("10.0.0.1:80".parse::<Authority>().unwrap());
        let some = self.streams.keys().copied().nth(random.usize(0..self.streams.len().max(1)));
        match (random.u8(0..10), some) {
            (0, _) if side == Side::Client => {
                if let Ok(id) = self.machine.open(&request) {
                    self.streams.insert(id, Side1 { early: Some(EARLY), ..Side1::default() });
                }
            }
            (1, _) => {
                let Some(id) = self.asked.pop_front() else { return };
                if random.u8(0..4) == 0 {
                    self.machine.refuse(id, Refusal::DENIED);
                    self.forget(id);
                } else {
                    // It may have been reset meanwhile.
                    let _gone = self.machine.accept(id, None);
                    self.streams.entry(id).and_modify(|stream| stream.early = None);
                }
            }
            (2..=5, Some(id)) => self.send(id, random),
            (6, Some(id)) => {
                if let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.early.is_none())
                    && self.machine.finish(id).is_ok()
                {
                    stream.finished = true;
                }
            }
            (7..=8, Some(id)) => {
                if let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.early.is_none()) {
                    let amount = random.usize(0..=stream.unread);
                    stream.unread -= amount;
                    self.machine.consumed(id, amount);
                }
            }
            (9, Some(id)) if random.u8(0..20) == 0 => {
                self.machine.reset(id, ResetReason::Connect);
                self.forget(id);
            }
            _ => {}
        }
        self.flush();
    }

    fn send(&mut self, id: u32, random: &mut fastrand::Rng) {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.finished) else { return };
        let Ok(credit) = self.machine.credit(id) else { return };
        let length = random.usize(0..=credit.min(50_000).min(stream.early.unwrap_or(usize::MAX)));
        if length == 0 {
            return;
        }
        let text: Vec<u8> = (0..length).map(|number| (stream.sent.len() + number) as u8).collect();
        self.wire.extend(self.machine.take_output());
        self.wire.extend(self.machine.data(id, length));
        self.wire.extend(&text);
        stream.sent.extend(text);
        stream.early = stream.early.map(|early| early - length);
    }

    fn forget(&mut self, id: u32) {
        self.streams.remove(&id);
        self.machine.release(id);
        self.flush();
    }

    /// Hears some of what the other end has said.
    fn hear(&mut self, wire: &mut VecDeque<u8>, amount: usize) {
        let bytes: Vec<u8> = wire.drain(..amount.min(wire.len())).collect();
        let mut events = Vec::new();
        let heard = self.machine.receive(&bytes, 0..bytes.len(), Instant::now(), &mut events);
        heard.expect("an honest peer breaks no rule");
        for event in events {
            match event {
                Event::Open(id, request) => {
                    assert!(request.is_ok());
                    self.asked.push_back(id);
                    self.streams.insert(id, Side1 { early: Some(0), ..Side1::default() });
                }
                Event::Accepted(id, _) => drop(self.streams.entry(id).and_modify(|stream| stream.early = None)),
                Event::Data(id, range) => {
                    let Some(stream) = self.streams.get_mut(&id) else { continue };
                    assert!(!stream.peer_finished);
                    stream.unread += range.len();
                    for byte in &bytes[range] {
                        assert_eq!(*byte, stream.received.len() as u8, "in order and once");
                        stream.received.push(*byte);
                    }
                }
                Event::Finished(id) => {
                    if let Some(stream) = self.streams.get_mut(&id) {
                        stream.peer_finished = true;
                    }
                }
                Event::Refused(id, _) | Event::Reset(id, _) => {
                    self.asked.retain(|asked| *asked != id);
                    self.forget(id);
                }
                Event::Credit(_) | Event::GoingAway => {}
            }
        }
        self.flush();
    }
}

fn play(seed: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut client, mut server) = (End::new(Side::Client), End::new(Side::Server));
    client.flush();
    server.flush();
    for _ in 0..3000 {
        client.act(Side::Client, &mut random);
        server.act(Side::Server, &mut random);
        let (some, other) = (random.usize(0..60_000), random.usize(0..60_000));
        server.hear(&mut client.wire, some);
        client.hear(&mut server.wire, other);
    }
    while !client.wire.is_empty() || !server.wire.is_empty() {
        server.hear(&mut client.wire, usize::MAX);
        client.hear(&mut server.wire, usize::MAX);
    }
    let mut bytes = 0;
    for (id, near) in &client.streams {
        let Some(far) = server.streams.get(id) else { continue };
        assert_eq!((&near.sent, &far.sent), (&far.received, &near.received));
        assert_eq!((near.finished, far.finished), (far.peer_finished, near.peer_finished));
        bytes += near.sent.len() + far.sent.len();
    }
    bytes
}

#[test]
fn honest_ends_always_understand_each_other() {
    let moved: usize = (0..12).map(play).sum();
    assert!(moved > 1 << 20, "the simulation moves data: {moved}");
}
