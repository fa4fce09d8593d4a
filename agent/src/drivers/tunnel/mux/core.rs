//! One end of a tunnel as its streams and its driver share it, on one thread.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::frame::Violation;
use super::load::Load;
use super::machine::{EARLY, Event, Limits, Machine, Side};
use super::outbox::{Outbox, Source, Taken};
use super::port::{Outlet, Port, wait, wake};
use crate::drivers::tunnel::connect::{ConnectError, ConnectRequest};
use crate::drivers::tunnel::error::{NotProcessed, OpenError, ResetReason, StreamError, TunnelError};
use crate::drivers::tunnel::first::FirstBytes;
use crate::model::baggage::BaggageText;
use crate::runtime::budget::Share;
use crate::runtime::records::Received;

/// Pieces of one stream that go to its socket at once.
const AT_ONCE: usize = 32;

/// Nothing is sent before the answer unless the peer has spoken this recently: where it is gone, what was sent is lost, and nobody
/// knows whether it has arrived.
const RECENTLY: Duration = Duration::from_secs(1);

/// A request that came in.
pub(super) type Asked = (u32, Result<ConnectRequest, ConnectError>);

/// See the module.
pub(super) struct Core(RefCell<Inner>);

pub(super) struct Inner {
    pub(super) machine: Machine<Port>,
    pub(super) outbox: Outbox,
    pub(super) load: Load,
    pub(super) asked: Vec<Asked>,
    /// Streams that the peer gave up before they were answered. Each cost us a dial.
    pub(super) abandoned: usize,
    driver: Option<Waker>,
    /// The driver looks for what is to be sent before it waits, so it need not be woken.
    pub(super) driven: bool,
    pub(super) ended: Option<TunnelError>,
    watchers: Vec<Waker>,
    pub(super) closing: bool,
}

impl Core {
    pub(super) fn new(side: Side, limits: Limits) -> Rc<Self> {
        Rc::new(Self(RefCell::new(Inner {
            machine: Machine::new(side, limits, Instant::now()),
            outbox: Outbox::default(),
            load: Load::new(Instant::now()),
            asked: Vec::new(),
            abandoned: 0,
            driver: None,
            driven: false,
            ended: None,
            watchers: Vec::new(),
            closing: false,
        })))
    }

    /// Runs `work` on what is shared, and has what it leaves to be sent go out.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        let inner = &mut *self.0.borrow_mut();
        let result = work(inner);
        inner.send_soon();
        result
    }

    /// As [`Self::with`], for the driver, and for what leaves nothing to be sent.
    pub(super) fn with_quietly<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.0.borrow_mut())
    }

    /// A stream's port; what went wrong, if it is gone.
    pub(super) fn port<T>(&self, id: u32, work: impl FnOnce(&mut Port) -> T) -> Result<T, StreamError> {
        let inner = &mut *self.0.borrow_mut();
        let ended = inner.ended.clone();
        match inner.machine.stream(id) {
            Some(stream) => match &stream.port.broken {
                Some(why) => Err(why.clone()),
                None => Ok(work(&mut stream.port)),
            },
            None => Err(ended.unwrap_or(TunnelError::Closed).into()),
        }
    }

    /// Ready when a stream may send: how much.
    pub(super) fn poll_send(&self, id: u32, cx: &Context<'_>) -> Poll<Result<usize, StreamError>> {
        let inner = &mut *self.0.borrow_mut();
        let credit = inner.machine.credit(id);
        let Some(stream) = inner.machine.stream(id) else { return Poll::Ready(Err(inner.gone())) };
        if let Some(why) = &stream.port.broken {
            return Poll::Ready(Err(why.clone()));
        }
        let credit = credit?;
        // To be woken in either case: by credit, or by a reset.
        wait(&mut stream.port.writer, cx);
        if credit > 0 && inner.outbox.has_room(cx) { Poll::Ready(Ok(credit)) } else { Poll::Pending }
    }

    /// Reads from a stream's socket into what is sent.
    pub(super) fn take_from(&self, id: u32, source: Source<'_>, most: usize, records: usize) -> io::Result<Taken> {
        self.with(|inner| inner.take_from(id, source, most, records))
    }

    /// Has what the application has said so far go along with the request for its connection; else the task of `cx` is woken when it
    /// says something.
    pub(super) fn send_first(&self, id: u32, first: &FirstBytes<'_>, cx: &mut Context<'_>) {
        while let Some((socket, sent)) = first.to_be_sent(EARLY) {
            if socket.poll_read_ready(cx).is_pending() {
                return;
            }
            let taken = self.with(|inner| {
                let is_worth_it = inner.has_heard_recently() && inner.outbox.has_room(cx);
                is_worth_it.then(|| inner.take_from(id, Source::PeekAfter(sent, socket), EARLY - sent, 1))
            });
            match taken {
                Some(Ok(Taken::Bytes { length, .. })) => first.sent(length),
                Some(Ok(Taken::Nothing)) if socket.poll_read_ready(cx).is_pending() => return,
                // The relay finds the end, or what went wrong.
                Some(Ok(Taken::Nothing | Taken::End) | Err(_)) | None => first.leave(),
            }
        }
    }

    /// From now on, what waits for the application of a stream has to fit into `share`.
    pub(super) fn charge(&self, id: u32, share: &Arc<Share>) {
        self.with(|inner| {
            let Some(stream) = inner.machine.stream(id) else { return };
            if let Err(why) = stream.port.charge(share) {
                stream.port.breaks(&why);
                inner.machine.reset(id, ResetReason::EnhanceYourCalm);
            }
        });
    }

    /// Opens a stream.
    pub(super) fn open(&self, request: &ConnectRequest) -> Result<u32, NotProcessed> {
        self.with(|inner| {
            inner.can_open()?;
            inner.machine.open(request)
        })
    }

    /// The answer to a request.
    pub(super) fn poll_answer(&self, id: u32, cx: &Context<'_>) -> Poll<Result<BaggageText, OpenError>> {
        let inner = &mut *self.0.borrow_mut();
        let Some(stream) = inner.machine.stream(id) else {
            return Poll::Ready(Err(OpenError::Interrupted(inner.ended.clone().unwrap_or(TunnelError::Closed))));
        };
        if let Some(answer) = stream.port.answer.take() {
            return Poll::Ready(answer);
        }
        wait(&mut stream.port.writer, cx);
        Poll::Pending
    }

    /// Waits for the end of the tunnel.
    pub(super) fn poll_ended(&self, cx: &Context<'_>) -> Poll<TunnelError> {
        let inner = &mut *self.0.borrow_mut();
        if let Some(why) = &inner.ended {
            return Poll::Ready(why.clone());
        }
        inner.watchers.retain(|waker| !waker.will_wake(cx.waker()));
        inner.watchers.push(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn release(&self, id: u32) {
        self.with(|inner| {
            inner.machine.release(id);
            // A tunnel that is to close does so with its last stream.
            if inner.closing {
                wake(&mut inner.driver);
            }
        });
    }
}

impl Inner {
    /// Has `cx` woken when something is to be sent.
    pub(super) fn drive(&mut self, cx: &Context<'_>) {
        wait(&mut self.driver, cx);
    }

    pub(super) fn wake_driver(&mut self) {
        wake(&mut self.driver);
    }

    /// Whether another stream can be opened.
    pub(super) fn can_open(&self) -> Result<(), NotProcessed> {
        if let Some(why) = &self.ended {
            return Err(NotProcessed::Ended(why.clone()));
        }
        if self.closing {
            return Err(NotProcessed::Ended(TunnelError::Closed));
        }
        self.machine.can_open()
    }

    fn has_heard_recently(&self) -> bool {
        Instant::now().checked_sub(RECENTLY).is_none_or(|moment| self.machine.has_heard_since(moment))
    }

    fn take_from(&mut self, id: u32, source: Source<'_>, most: usize, records: usize) -> io::Result<Taken> {
        let Self { machine, outbox, .. } = self;
        // What was said before about this stream goes first.
        if machine.has_output() {
            outbox.add(&machine.take_output());
        }
        let taken = outbox.take_from(source, most, records, |part| machine.data(id, part));
        if let Ok(Taken::Bytes { length, .. }) = taken {
            self.load.note(length, Instant::now);
        }
        taken
    }

    fn gone(&self) -> StreamError {
        self.ended.clone().unwrap_or(TunnelError::Closed).into()
    }

    fn send_soon(&mut self) {
        if !self.driven && (self.machine.has_output() || !self.outbox.is_empty()) {
            wake(&mut self.driver);
        }
    }

    /// Takes what was received.
    pub(super) fn take(&mut self, received: &Received, events: &mut Vec<Event>) -> Result<(), Violation> {
        let now = Instant::now();
        for piece in &received.pieces {
            self.machine.receive(&received.bytes, piece.clone(), now, events)?;
        }
        let mut events = events.drain(..).peekable();
        while let Some(event) = events.next() {
            let Event::Data(id, first) = event else {
                self.act(event);
                continue;
            };
            let mut pieces = [IoSlice::new(&[]); AT_ONCE];
            pieces[0] = IoSlice::new(&received.bytes[first]);
            let mut number = 1;
            while number < AT_ONCE
                && let Some(Event::Data(_, next)) =
                    events.next_if(|next| matches!(next, Event::Data(other, _) if *other == id))
            {
                pieces[number] = IoSlice::new(&received.bytes[next]);
                number += 1;
            }
            self.load.note(pieces[..number].iter().map(|piece| piece.len()).sum(), || now);
            let is_last = matches!(events.peek(), Some(Event::Finished(other)) if *other == id);
            self.deliver(id, &pieces[..number], is_last);
        }
        Ok(())
    }

    fn deliver(&mut self, id: u32, pieces: &[IoSlice<'_>], is_last: bool) {
        let Some(stream) = self.machine.stream(id) else { return };
        match stream.port.deliver(pieces, is_last) {
            Ok(wrote) => {
                if wrote.blocked && stream.port.outlet.is_some() {
                    self.machine.stalled(id);
                }
                self.machine.consumed(id, wrote.bytes);
            }
            Err(why) => {
                stream.port.breaks(&why);
                self.machine.reset(id, ResetReason::EnhanceYourCalm);
            }
        }
    }

    fn act(&mut self, event: Event) {
        match event {
            Event::Open(id, request) => self.asked.push((id, *request)),
            Event::Accepted(id, baggage) => self.answered(id, Ok(baggage)),
            Event::Refused(id, refusal) => self.answered(id, Err(OpenError::Refused(refusal))),
            Event::Finished(id) => {
                if let Some(stream) = self.machine.stream(id) {
                    wake(&mut stream.port.reader);
                }
            }
            Event::Credit(id) => {
                if let Some(stream) = self.machine.stream(id) {
                    wake(&mut stream.port.writer);
                }
            }
            Event::Reset(id, reason) => self.reset(id, reason),
            Event::GoingAway | Event::Data(..) => {}
        }
    }

    fn answered(&mut self, id: u32, answer: Result<BaggageText, OpenError>) {
        if let Some(stream) = self.machine.stream(id) {
            stream.port.accepted = answer.is_ok();
            stream.port.answer = Some(answer);
            wake(&mut stream.port.writer);
        }
    }

    fn reset(&mut self, id: u32, reason: ResetReason) {
        let Some(stream) = self.machine.stream(id) else { return };
        let port = &mut stream.port;
        if !port.accepted {
            self.abandoned += 1;
            let refused = reason == ResetReason::Refused;
            let why = if refused { NotProcessed::RefusedStream.into() } else { OpenError::Reset(reason) };
            port.answer = Some(Err(why));
        }
        port.breaks(&StreamError::Reset(reason));
    }

    /// The tunnel is over: everybody is told.
    pub(super) fn end(&mut self, why: TunnelError) {
        if self.ended.is_some() {
            return;
        }
        for port in self.machine.ports() {
            if port.answer.is_none() && !port.accepted {
                port.answer = Some(Err(OpenError::Interrupted(why.clone())));
            }
            port.breaks(&why.clone().into());
        }
        self.ended = Some(why);
        self.watchers.drain(..).for_each(Waker::wake);
    }

    /// A stream leads to a socket from now on.
    pub(super) fn attach(&mut self, id: u32, outlet: Outlet) {
        if let Some(stream) = self.machine.stream(id) {
            stream.port.outlet = Some(outlet);
        }
    }

    /// Writes what waits for a stream's socket. Ready when nothing does, with whether that was the end.
    pub(super) fn write_waiting(&mut self, id: u32) -> Result<io::Result<bool>, StreamError> {
        let gone = self.gone();
        let Some(stream) = self.machine.stream(id) else { return Err(gone) };
        if let Some(why) = &stream.port.broken {
            return Err(why.clone());
        }
        let wrote = match stream.port.write_waiting() {
            Ok(wrote) => wrote,
            Err(error) => return Ok(Err(error)),
        };
        self.machine.consumed(id, wrote.bytes);
        Ok(Ok(!wrote.blocked))
    }
}
