//! Moves a tunnel's records: what came to the streams, what they have to say to the peer.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep};

use super::core::{Asked, Core};
use super::machine::Event;
use crate::drivers::tunnel::error::{ResetReason, TunnelError};
use crate::runtime::gather::Gather;
use crate::runtime::records::{Received, Records};

/// How long a tunnel that is over may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// More than this waits to be sent only to a peer that asks and asks and reads no answer, in bytes.
const MOST_WAITING: usize = 16 << 20;

/// What is sent without waiting for more, in bytes.
const ENOUGH: usize = 32 * 1024;

/// See the module.
pub(super) struct Driver<R> {
    core: Rc<Core>,
    records: R,
    events: Vec<Event>,
    timer: Pin<Box<Sleep>>,
    gather: Gather,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Open,
    /// What is left is sent, then the connection is closed; by the timer at the latest.
    Closing(Result<(), TunnelError>),
    Closed(Result<(), TunnelError>),
}

/// What a turn of the driver brought.
pub(super) enum Turn {
    /// Requests, to be handled before the next turn.
    Asked(Vec<Asked>),
    /// The end.
    Ended(Result<(), TunnelError>),
}

impl<R: Records> Driver<R> {
    pub(super) fn new(core: Rc<Core>, records: R) -> Self {
        Self {
            core,
            records,
            events: Vec::new(),
            timer: Box::pin(sleep(Duration::ZERO)),
            gather: Gather::default(),
            phase: Phase::Open,
        }
    }

    /// One turn: receives once, then sends what there is.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if let Phase::Closed(result) = &self.phase {
            return Poll::Ready(Turn::Ended(result.clone()));
        }
        if let Phase::Open = self.phase {
            self.core.with_quietly(|inner| inner.drive(cx));
            let more = self.work(cx);
            let asked = self.core.with_quietly(|inner| std::mem::take(&mut inner.asked));
            if !asked.is_empty() {
                return Poll::Ready(Turn::Asked(asked));
            }
            if more && matches!(self.phase, Phase::Open) {
                // There may be more: the thread's other tasks have their turn first.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        if let Phase::Closing(_) = self.phase {
            self.close(cx);
        }
        match &self.phase {
            Phase::Closed(result) => Poll::Ready(Turn::Ended(result.clone())),
            Phase::Open | Phase::Closing(_) => Poll::Pending,
        }
    }

    /// Whether something was received.
    fn work(&mut self, cx: &mut Context<'_>) -> bool {
        if let Err(why) = self.tick(cx) {
            self.end(Err(why));
            return false;
        }
        let received = match self.receive(cx) {
            Poll::Ready(Ok(open)) => {
                if !open {
                    self.end(Ok(()));
                    return false;
                }
                true
            }
            Poll::Ready(Err(why)) => {
                self.end(Err(why));
                return false;
            }
            Poll::Pending => false,
        };
        if self.waits_for_more(cx) {
            return received;
        }
        match self.send(cx) {
            Poll::Ready(Err(error)) => self.end(Err(TunnelError::Io(error.kind()))),
            Poll::Ready(Ok(())) if self.is_done() => self.end(Ok(())),
            Poll::Pending if self.core.with_quietly(|inner| inner.outbox.waits()) > MOST_WAITING => {
                self.end(Err(TunnelError::Protocol("more questions than it reads answers".into())));
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        received
    }

    /// What little there is waits until the thread has looked once at what else is ready: its streams' news goes along.
    fn waits_for_more(&mut self, cx: &mut Context<'_>) -> bool {
        let little = self.core.with_quietly(|inner| {
            let waits = inner.outbox.waits();
            !inner.driven && waits < ENOUGH && (waits > 0 || inner.machine.has_output())
        });
        if !little {
            self.gather.begin_anew();
        }
        little && self.gather.looks(cx)
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Result<(), TunnelError> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let next = self.core.with_quietly(|inner| inner.machine.tick(Instant::now()))?;
            self.timer.as_mut().reset(next.into());
        }
        Ok(())
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, TunnelError>> {
        let Self { core, records, events, .. } = self;
        Received::with(|received| {
            let open = ready!(records.poll_receive(cx, received)).map_err(|error| broken(&error))?;
            core.with_quietly(|inner| inner.take(received, events))
                .map_err(|violation| TunnelError::Protocol(violation.to_string()))?;
            Poll::Ready(Ok(open))
        })
    }

    /// Ready when there is nothing to send any more.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { core, records, .. } = self;
        core.with_quietly(|inner| {
            loop {
                if inner.machine.has_output() {
                    inner.outbox.add(&inner.machine.take_output());
                }
                let Some(batch) = inner.outbox.front() else {
                    return records.poll_send(cx, None);
                };
                ready!(records.poll_send(cx, Some(batch)))?;
                inner.outbox.pop();
            }
        })
    }

    /// Whether the tunnel was to close and nothing is left in it.
    fn is_done(&self) -> bool {
        self.core.with_quietly(|inner| {
            inner.closing && inner.machine.live() == 0 && inner.outbox.is_empty() && !inner.machine.has_output()
        })
    }

    /// Nothing more is received. Violations are answered with a GOAWAY.
    pub(super) fn end(&mut self, result: Result<(), TunnelError>) {
        self.core.with_quietly(|inner| {
            if matches!(result, Err(TunnelError::Protocol(_))) {
                inner.machine.leave(ResetReason::EnhanceYourCalm);
            }
            inner.end(result.clone().err().unwrap_or(TunnelError::Closed));
        });
        self.timer.as_mut().reset((Instant::now() + LAST_WORDS).into());
        self.phase = Phase::Closing(result);
    }

    fn close(&mut self, cx: &mut Context<'_>) {
        let late = self.timer.as_mut().poll(cx).is_ready();
        let sent = self.send(cx).map(|sent| sent.is_ok());
        let closed = match sent {
            Poll::Ready(true) => self.records.poll_close(cx).is_ready(),
            Poll::Ready(false) => true,
            Poll::Pending => false,
        };
        if let (true, Phase::Closing(result)) = (closed || late, &self.phase) {
            self.phase = Phase::Closed(result.clone());
        }
    }
}

impl<R> Drop for Driver<R> {
    fn drop(&mut self) {
        self.core.with_quietly(|inner| inner.end(TunnelError::Closed));
    }
}

/// Why nothing can be received any more: what the peer said as it broke off, if it did.
fn broken(error: &io::Error) -> TunnelError {
    if error.kind() == io::ErrorKind::InvalidData {
        return TunnelError::Records(error.to_string());
    }
    TunnelError::Io(error.kind())
}
