//! One stream, and what may still be sent in it.

use super::protocol::FIRST_CREDIT;

/// One stream. `P` is what the owner keeps with it.
#[derive(Debug)]
pub struct Stream<P> {
    /// The owner's.
    pub port: P,
    pub(super) phase: Phase,
    /// What we may still send, in bytes.
    pub(super) credit: usize,
    pub(super) sent_end: bool,
    pub(super) received_end: bool,
    pub(super) window: Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Asked for and not answered.
    Opening,
    Open,
    /// Reset or refused: nothing more is sent or taken.
    Gone,
}

/// What the peer may send in a stream.
#[derive(Debug)]
pub(super) struct Window {
    /// How much at a time.
    size: usize,
    /// How much it may still send.
    pub(super) left: usize,
    /// Taken by the application, and not yet given back.
    owed: usize,
    /// The application has not kept up since credit was given last.
    pub(super) stalled: bool,
}

impl<P: Default> Stream<P> {
    pub(super) fn new() -> Self {
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

    /// Whether we have ended ours.
    #[must_use]
    pub fn sent_end(&self) -> bool {
        self.sent_end
    }
}

impl Window {
    /// What the peer has sent and was not given back.
    pub(super) fn used(&self) -> usize {
        self.size - self.left
    }

    /// How much more the peer may send, once it is worth saying.
    pub(super) fn consumed(&mut self, length: usize, largest: usize) -> usize {
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
