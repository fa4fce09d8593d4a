//! What this end does, and what it remembers of the other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::stream::{Phase, Stream};
use crate::drivers::tunnel::connect::ConnectRequest;
use crate::drivers::tunnel::error::{NotProcessed, ResetReason, StreamError, TunnelError};
use crate::drivers::tunnel::mux::frame::{HEADER, Header, Kind, Parser};
use crate::drivers::tunnel::mux::payload;
use crate::drivers::tunnel::refusal::Refusal;
use crate::model::baggage::BaggageText;

/// What either side may send in a stream before it has been given more, in bytes. Part of the protocol.
pub const FIRST_CREDIT: u32 = 256 * 1024;

/// What a client may send in a stream before it was answered, in bytes. Part of the protocol.
pub const EARLY: usize = 16 * 1024;

/// How many streams a client opens before it has heard how many the server takes.
const STREAMS_BEFORE_HELLO: u32 = 1000;

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

/// See the module.
#[derive(Debug)]
pub struct Machine<P> {
    pub(super) side: Side,
    pub(super) limits: Limits,
    pub(super) parser: Parser,
    pub(super) streams: HashMap<u32, Stream<P>>,
    /// The newest stream that was opened, from either side's view.
    pub(super) newest: u32,
    pub(super) out: Vec<u8>,
    pub(super) peer: Peer,
    pub(super) leaving: bool,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) begun: Instant,
    pub(super) hello: bool,
    pub(super) max_streams: u32,
    /// The last stream that it takes.
    pub(super) last: Option<u32>,
    pub(super) heard: Instant,
    pub(super) asked: Option<Instant>,
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
        put(&mut machine.out, 0, Kind::Hello, |into| payload::hello(streams, into));
        machine
    }

    /// Frames that are to be sent, before anything that is sent after this call.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Whether there are any.
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
        put(&mut self.out, self.newest, Kind::Open, |into| payload::open(request, into));
        Ok(self.newest)
    }

    /// Answers a request: the connection is made.
    ///
    /// # Errors
    /// When the client gave up meanwhile.
    pub fn accept(&mut self, id: u32, baggage: Option<&BaggageText>) -> Result<(), StreamError> {
        self.alive(id)?.phase = Phase::Open;
        put(&mut self.out, id, Kind::Accept, |into| payload::accept(baggage, into));
        Ok(())
    }

    /// Answers a request: the connection is not made.
    pub fn refuse(&mut self, id: u32, refusal: Refusal) {
        if let Ok(stream) = self.alive(id) {
            stream.phase = Phase::Gone;
            put(&mut self.out, id, Kind::Refuse, |into| payload::refuse(refusal, into));
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
    pub fn data(&mut self, id: u32, length: usize) -> [u8; HEADER] {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.credit = stream.credit.checked_sub(length).expect("no more is sent than there is credit for");
        }
        Header::encode(id, Kind::Data, length)
    }

    /// Whether the peer has said something after this moment.
    #[must_use]
    pub fn has_heard_since(&self, moment: Instant) -> bool {
        self.peer.heard >= moment
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

    pub(super) fn alive(&mut self, id: u32) -> Result<&mut Stream<P>, StreamError> {
        let gone = StreamError::Reset(ResetReason::Cancel);
        self.streams.get_mut(&id).filter(|stream| stream.phase != Phase::Gone).ok_or(gone)
    }

    pub(super) fn send(&mut self, stream: u32, kind: Kind, payload: &[u8]) {
        put(&mut self.out, stream, kind, |into| into.extend_from_slice(payload));
    }
}

fn put(frames: &mut Vec<u8>, stream: u32, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
    let at = frames.len();
    frames.extend(Header::encode(stream, kind, 0));
    write(frames);
    let length = frames.len() - at - HEADER;
    frames[at..at + HEADER].copy_from_slice(&Header::encode(stream, kind, length));
}
