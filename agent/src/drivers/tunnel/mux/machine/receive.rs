//! What the peer says, frame by frame, and what it may not say.

use std::ops::Range;
use std::time::Instant;

use super::event::Event;
use super::protocol::{EARLY, Machine, Side};
use super::stream::{Phase, Stream};
use crate::drivers::tunnel::error::ResetReason;
use crate::drivers::tunnel::mux::frame::{Item, Kind, Violation};
use crate::drivers::tunnel::mux::payload;

/// Answers that wait because the peer does not read: nobody needs so many, in bytes.
const MOST_ANSWERS: usize = 256 * 1024;

impl<P: Default> Machine<P> {
    /// Takes what came: the bytes at `piece`. What happened is added to `events`.
    ///
    /// # Errors
    /// [`Violation`] when the peer broke the protocol; the tunnel is to be ended then.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        piece: Range<usize>,
        now: Instant,
        events: &mut Vec<Event>,
    ) -> Result<(), Violation> {
        self.peer.heard = now;
        self.peer.asked = None;
        let mut at = piece.start;
        // Moved out, so that what it found can be acted on.
        let mut parser = std::mem::take(&mut self.parser);
        while let Some(item) = parser.next(bytes, &mut at, piece.end)? {
            match item {
                Item::Data { stream, range } => self.take_data(stream, range, events)?,
                Item::Control { stream, kind, payload } => self.take_control(stream, kind, payload, events)?,
            }
        }
        self.parser = parser;
        Ok(())
    }

    fn take_data(&mut self, id: u32, range: Range<usize>, events: &mut Vec<Event>) -> Result<(), Violation> {
        self.greeted()?;
        let side = self.side;
        let Some(stream) = self.existing(id)? else { return Ok(()) };
        let is_opening = stream.phase == Phase::Opening;
        if (is_opening && side == Side::Client) || stream.received_end {
            return Err(Violation("data outside of an open stream"));
        }
        if is_opening && stream.window.used() + range.len() > EARLY {
            return Err(Violation("more data than may be sent before the answer"));
        }
        stream.window.left =
            stream.window.left.checked_sub(range.len()).ok_or(Violation("more data than there was credit for"))?;
        events.push(Event::Data(id, range));
        Ok(())
    }

    fn take_control(&mut self, id: u32, kind: Kind, payload: &[u8], events: &mut Vec<Event>) -> Result<(), Violation> {
        if kind == Kind::Hello {
            return self.take_hello(payload);
        }
        self.greeted()?;
        match kind {
            Kind::Open => return self.take_open(id, payload, events),
            Kind::Ping => return self.answer(payload),
            Kind::GoAway => return self.take_go_away(payload, events),
            Kind::Data | Kind::Hello | Kind::Pong => return Ok(()),
            Kind::Accept | Kind::Refuse | Kind::Fin | Kind::Reset | Kind::Credit => {}
        }
        self.take_of_stream(id, kind, payload, events)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what is left is FIN; the others have been acted on")]
    fn take_of_stream(
        &mut self,
        id: u32,
        kind: Kind,
        payload: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Violation> {
        let side = self.side;
        let Some(stream) = self.existing(id)? else { return Ok(()) };
        events.push(match kind {
            Kind::Accept | Kind::Refuse if side == Side::Server || stream.phase != Phase::Opening => {
                return Err(Violation("an answer that nobody waits for"));
            }
            Kind::Accept => {
                stream.phase = Phase::Open;
                Event::Accepted(id, payload::read_accept(payload)?)
            }
            Kind::Refuse => {
                stream.phase = Phase::Gone;
                Event::Refused(id, payload::read_refuse(payload)?)
            }
            Kind::Reset => {
                stream.phase = Phase::Gone;
                Event::Reset(id, ResetReason::from_code(number(payload)))
            }
            Kind::Credit => {
                stream.credit = stream.credit.saturating_add(number(payload) as usize);
                Event::Credit(id)
            }
            _ if stream.phase == Phase::Opening || stream.received_end => {
                return Err(Violation("an end of a stream that is not open"));
            }
            _ => {
                stream.received_end = true;
                Event::Finished(id)
            }
        });
        Ok(())
    }

    fn take_hello(&mut self, payload: &[u8]) -> Result<(), Violation> {
        if std::mem::replace(&mut self.peer.hello, true) {
            return Err(Violation("a second HELLO"));
        }
        if let Some(streams) = payload::read_hello(payload)? {
            self.peer.max_streams = streams;
        }
        Ok(())
    }

    fn take_open(&mut self, id: u32, payload: &[u8], events: &mut Vec<Event>) -> Result<(), Violation> {
        if self.side == Side::Client || id <= self.newest {
            return Err(Violation("a stream that is not the client's next"));
        }
        self.newest = id;
        let request = payload::read_open(payload)?;
        if self.leaving || self.live() >= self.limits.max_streams as usize {
            self.send(id, Kind::Reset, &ResetReason::Refused.code().to_be_bytes());
            return self.bounded();
        }
        self.streams.insert(id, Stream::new());
        events.push(Event::Open(id, Box::new(request)));
        Ok(())
    }

    fn take_go_away(&mut self, payload: &[u8], events: &mut Vec<Event>) -> Result<(), Violation> {
        let last = number(payload);
        if self.peer.last.is_some_and(|earlier| last > earlier) {
            return Err(Violation("a GOAWAY that takes back another"));
        }
        self.peer.last = Some(last);
        events.push(Event::GoingAway);
        let missed = self.streams.iter().filter(|(id, stream)| **id > last && stream.phase == Phase::Opening);
        let missed: Vec<u32> = missed.map(|(id, _)| *id).collect();
        for id in missed {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.phase = Phase::Gone;
            }
            events.push(Event::Reset(id, ResetReason::Refused));
        }
        Ok(())
    }

    fn answer(&mut self, payload: &[u8]) -> Result<(), Violation> {
        self.send(0, Kind::Pong, payload);
        self.bounded()
    }

    fn greeted(&self) -> Result<(), Violation> {
        if self.peer.hello { Ok(()) } else { Err(Violation("something before HELLO")) }
    }

    fn bounded(&self) -> Result<(), Violation> {
        if self.out.len() > MOST_ANSWERS { Err(Violation("more questions than it reads answers")) } else { Ok(()) }
    }

    /// A stream that the peer speaks of; `None` for one that is gone, of which the peer may not know yet.
    fn existing(&mut self, id: u32) -> Result<Option<&mut Stream<P>>, Violation> {
        if id > self.newest {
            return Err(Violation("a stream that was never opened"));
        }
        Ok(self.streams.get_mut(&id).filter(|stream| stream.phase != Phase::Gone))
    }
}

fn number(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
