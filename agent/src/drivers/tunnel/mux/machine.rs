//! The protocol's state: which streams there are, how much each may send, and what the other side has been told. Pure: bytes and
//! the time come in, bytes and events go out.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::frame::{Header, Item, Kind, Parser, Violation};
use super::payload;
use crate::drivers::tunnel::connect::{ConnectError, ConnectRequest};
use crate::drivers::tunnel::error::{NotProcessed, ResetReason, StreamError, TunnelError};
use crate::drivers::tunnel::refusal::Refusal;
use crate::model::baggage::Baggage;

/// What either side may send in a stream before it has been given more, in bytes. Part of the protocol.
pub const FIRST_CREDIT: u32 = 256 * 1024;

/// How many streams a client opens before it has heard how many the server takes.
const STREAMS_BEFORE_HELLO: u32 = 1000;

/// Answers that wait because the peer does not read: nobody needs so many, in bytes.
const MOST_ANSWERS: usize = 256 * 1024;

/// The limits and timers of one end.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Streams at a time: as a server, told to the peer; as a client, our own limit besides the peer's.
    pub max_streams: u32,
    /// How far the credit of a stream grows whose application keeps up, in bytes. This much of one stream may come to wait here.
    pub largest_credit: u32,
    /// How long the peer has for its HELLO.
    pub hello: Duration,
    /// After this much silence the peer is asked whether it is there.
    pub keepalive_interval: Duration,
    /// How long it then has to say anything.
    pub keepalive_timeout: Duration,
}

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Opens streams.
    Client,
    /// Accepts them.
    Server,
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The client asks for a connection.
    Open(u32, Box<Result<ConnectRequest, ConnectError>>),
    /// The server has made it.
    Accepted(u32, Box<Baggage>),
    /// The server has not, and will not.
    Refused(u32, Refusal),
    /// Bytes came; where they lie in what was received.
    Data(u32, Range<usize>),
    /// The peer sends nothing more in the stream.
    Finished(u32),
    /// The stream is gone.
    Reset(u32, ResetReason),
    /// More may be sent in the stream.
    Credit(u32),
    /// The peer takes no further streams.
    GoingAway,
}

/// One stream. `P` is what the owner keeps with it.
#[derive(Debug)]
pub struct Stream<P> {
    /// The owner's.
    pub port: P,
    phase: Phase,
    /// What we may still send, in bytes.
    credit: usize,
    sent_end: bool,
    received_end: bool,
    window: Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Asked for and not answered.
    Opening,
    Open,
    /// Reset or refused: nothing more is sent or taken.
    Gone,
}

/// What the peer may send in a stream.
#[derive(Debug)]
struct Window {
    /// How much at a time.
    size: usize,
    /// How much it may still send.
    left: usize,
    /// Taken by the application, and not yet given back.
    owed: usize,
    /// The application has not kept up since credit was given last.
    stalled: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Machine<P> {
    side: Side,
    limits: Limits,
    parser: Parser,
    streams: HashMap<u32, Stream<P>>,
    /// The newest stream that was opened, from either side's view.
    newest: u32,
    out: Vec<u8>,
    peer: Peer,
    leaving: bool,
}

#[derive(Debug)]
struct Peer {
    begun: Instant,
    hello: bool,
    max_streams: u32,
    /// The last stream that it takes.
    last: Option<u32>,
    heard: Instant,
    asked: Option<Instant>,
}

impl<P: Default> Machine<P> {
    /// A new tunnel, with HELLO to be sent.
    #[must_use]
    pub fn new(side: Side, limits: Limits, now: Instant) -> Self {
        let mut machine = Self {
            side,
            parser: Parser::default(),
            streams: HashMap::new(),
            newest: 0,
            out: Vec::new(),
            peer: Peer {
                begun: now,
                hello: false,
                max_streams: STREAMS_BEFORE_HELLO,
                last: None,
                heard: now,
                asked: None,
            },
            leaving: false,
            limits,
        };
        let streams = if side == Side::Server { machine.limits.max_streams } else { 0 };
        machine.send(0, Kind::Hello, &payload::hello(streams));
        machine
    }

    /// Frames that are to be sent, before anything that is sent after this call.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Whether there is any.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// How many streams there are: also those that have ended, until they are released.
    #[must_use]
    pub fn live(&self) -> usize {
        self.streams.len()
    }

    /// A stream, until it is released.
    pub fn stream(&mut self, id: u32) -> Option<&mut Stream<P>> {
        self.streams.get_mut(&id)
    }

    /// All streams' ports.
    pub fn ports(&mut self) -> impl Iterator<Item = &mut P> {
        self.streams.values_mut().map(|stream| &mut stream.port)
    }

    /// Whether another stream can be opened, and why not.
    ///
    /// # Errors
    /// [`NotProcessed`]
    pub fn can_open(&self) -> Result<(), NotProcessed> {
        if self.leaving || self.peer.last.is_some() {
            return Err(NotProcessed::GoingAway);
        }
        if self.live() >= self.limits.max_streams.min(self.peer.max_streams) as usize || self.newest == u32::MAX {
            return Err(NotProcessed::Full);
        }
        Ok(())
    }

    /// Asks for a connection.
    ///
    /// # Errors
    /// [`NotProcessed`]; nothing was sent then.
    pub fn open(&mut self, request: &ConnectRequest) -> Result<u32, NotProcessed> {
        self.can_open()?;
        self.newest += 1;
        self.streams.insert(self.newest, Stream::new());
        self.send(self.newest, Kind::Open, &payload::open(request));
        Ok(self.newest)
    }

    /// Answers a request: the connection is made.
    ///
    /// # Errors
    /// When the client gave up meanwhile.
    pub fn accept(&mut self, id: u32, baggage: Option<&Baggage>) -> Result<(), StreamError> {
        let stream = self.alive(id)?;
        stream.phase = Phase::Open;
        self.send(id, Kind::Accept, &payload::accept(baggage));
        Ok(())
    }

    /// Answers a request: the connection is not made.
    pub fn refuse(&mut self, id: u32, refusal: Refusal) {
        if let Ok(stream) = self.alive(id) {
            stream.phase = Phase::Gone;
            self.send(id, Kind::Refuse, &payload::refuse(refusal));
        }
    }

    /// How much may be sent in a stream now, in bytes.
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn credit(&mut self, id: u32) -> Result<usize, StreamError> {
        Ok(self.alive(id)?.credit)
    }

    /// The head of `length` bytes that are sent in a stream at this moment.
    ///
    /// # Panics
    /// When the stream has no such credit.
    pub fn data(&mut self, id: u32, length: usize) -> [u8; super::frame::HEADER] {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.credit = stream.credit.checked_sub(length).expect("no more is sent than there is credit for");
        }
        Header::encode(id, Kind::Data, length)
    }

    /// Nothing more is sent in a stream.
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn finish(&mut self, id: u32) -> Result<(), StreamError> {
        let stream = self.alive(id)?;
        if !std::mem::replace(&mut stream.sent_end, true) {
            self.send(id, Kind::Fin, &[]);
        }
        Ok(())
    }

    /// Ends both directions of a stream at once, unless both have ended.
    pub fn reset(&mut self, id: u32, reason: ResetReason) {
        if let Ok(stream) = self.alive(id) {
            let over = stream.sent_end && stream.received_end;
            stream.phase = Phase::Gone;
            if !over {
                self.send(id, Kind::Reset, &reason.code().to_be_bytes());
            }
        }
    }

    /// The application has taken `length` bytes of a stream: the peer may send as many more, and more yet if it kept up.
    pub fn consumed(&mut self, id: u32, length: usize) {
        let largest = self.limits.largest_credit as usize;
        let Ok(stream) = self.alive(id) else { return };
        let more = if stream.received_end { 0 } else { stream.window.consumed(length, largest) };
        if let (true, Ok(more)) = (more > 0, u32::try_from(more)) {
            self.send(id, Kind::Credit, &more.to_be_bytes());
        }
    }

    /// The application of a stream does not keep up.
    pub fn stalled(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.window.stalled = true;
        }
    }

    /// The owner is done with a stream. Reset if it has not ended.
    pub fn release(&mut self, id: u32) {
        self.reset(id, ResetReason::Cancel);
        self.streams.remove(&id);
    }

    /// Takes no further streams, and tells the peer.
    pub fn leave(&mut self, reason: ResetReason) {
        if !std::mem::replace(&mut self.leaving, true) {
            let mut text = [0; 8];
            text[..4].copy_from_slice(&self.newest.to_be_bytes());
            text[4..].copy_from_slice(&reason.code().to_be_bytes());
            self.send(0, Kind::GoAway, &text);
        }
    }

    /// Whether this end takes no further streams.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Looks at the clock; says when to look again.
    ///
    /// # Errors
    /// When the peer has been silent for too long.
    pub fn tick(&mut self, now: Instant) -> Result<Instant, TunnelError> {
        let Limits { hello, keepalive_interval, keepalive_timeout, .. } = self.limits;
        if !self.peer.hello && now >= self.peer.begun + hello {
            return Err(TunnelError::Handshake(hello));
        }
        if let Some(asked) = self.peer.asked {
            if now >= asked + keepalive_timeout {
                return Err(TunnelError::Silent(keepalive_timeout));
            }
            return Ok(asked + keepalive_timeout);
        }
        if now >= self.peer.heard + keepalive_interval {
            self.peer.asked = Some(now);
            self.send(0, Kind::Ping, &[0; 8]);
            return Ok(now + keepalive_timeout);
        }
        let next = self.peer.heard + keepalive_interval;
        Ok(if self.peer.hello { next } else { next.min(self.peer.begun + hello) })
    }

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
        let Some(stream) = self.existing(id)? else { return Ok(()) };
        if stream.phase == Phase::Opening || stream.received_end {
            return Err(Violation("data outside of an open stream"));
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
        let side = self.side;
        let Some(stream) = self.existing(id)? else { return Ok(()) };
        events.push(match kind {
            Kind::Accept | Kind::Refuse if side == Side::Server || stream.phase != Phase::Opening => {
                return Err(Violation("an answer that nobody waits for"));
            }
            Kind::Accept => {
                stream.phase = Phase::Open;
                Event::Accepted(id, Box::new(payload::read_accept(payload)?))
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

    fn alive(&mut self, id: u32) -> Result<&mut Stream<P>, StreamError> {
        let gone = StreamError::Reset(ResetReason::Cancel);
        self.streams.get_mut(&id).filter(|stream| stream.phase != Phase::Gone).ok_or(gone)
    }

    fn send(&mut self, stream: u32, kind: Kind, payload: &[u8]) {
        self.out.extend_from_slice(&Header::encode(stream, kind, payload.len()));
        self.out.extend_from_slice(payload);
    }
}

impl<P: Default> Stream<P> {
    fn new() -> Self {
        let first = FIRST_CREDIT as usize;
        Self {
            port: P::default(),
            phase: Phase::Opening,
            credit: first,
            sent_end: false,
            received_end: false,
            window: Window { size: first, left: first, owed: 0, stalled: false },
        }
    }
}

impl<P> Stream<P> {
    /// Whether the peer has ended its direction.
    #[must_use]
    pub fn received_end(&self) -> bool {
        self.received_end
    }

    /// Whether the stream has not been answered.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        self.phase == Phase::Opening
    }
}

impl Window {
    /// How much more the peer may send, once it is worth saying.
    fn consumed(&mut self, length: usize, largest: usize) -> usize {
        self.owed += length;
        if self.owed < self.size / 2 {
            return 0;
        }
        let kept_up = !std::mem::replace(&mut self.stalled, false);
        let larger = if kept_up { (self.size * 2).min(largest.max(self.size)) } else { self.size };
        let more = self.owed + (larger - self.size);
        (self.size, self.owed) = (larger, 0);
        self.left += more;
        more
    }
}

fn number(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
