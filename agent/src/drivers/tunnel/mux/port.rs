//! What is kept for one stream besides the protocol's state: the socket that it leads to, and what could not be written there yet.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use tokio::net::TcpStream;

use crate::drivers::tunnel::edge;
use crate::drivers::tunnel::error::{OpenError, StreamError};
use crate::model::baggage::BaggageText;
use crate::runtime::budget::{Permit, Share};
use crate::runtime::traffic::{Sender, Traffic};

/// What waits is kept in pieces of at least this size, so that small ones do not cost much more than their bytes.
const PIECE: usize = 16 * 1024;

/// Pieces that are written at once.
const AT_ONCE: usize = 16;

/// A socket that takes a stream's bytes, and the account of them.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) socket: Rc<TcpStream>,
    pub(super) traffic: Rc<Traffic>,
    pub(super) sender: Sender,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Port {
    pub(super) outlet: Option<Outlet>,
    waiting: VecDeque<Vec<u8>>,
    /// Of the first piece, what has been written.
    written: usize,
    account: Option<Permit>,
    /// Why nothing more moves in either direction.
    pub(super) broken: Option<StreamError>,
    pub(super) answer: Option<Result<BaggageText, OpenError>>,
    /// Whether the stream was answered.
    pub(super) accepted: bool,
    /// Waits for something to write to the socket.
    pub(super) reader: Option<Waker>,
    /// Waits for leave to send, or for an answer.
    pub(super) writer: Option<Waker>,
}

/// How far a write came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrote {
    pub(super) bytes: usize,
    /// Whether something is left.
    pub(super) blocked: bool,
}

impl Port {
    /// From now on, what waits has to fit into `share`.
    pub(super) fn charge(&mut self, share: &Arc<Share>) -> Result<(), StreamError> {
        if self.account.is_none() {
            let waiting = self.waiting.iter().map(Vec::len).sum();
            self.account = Some(share.take(waiting).map_err(StreamError::Memory)?);
        }
        Ok(())
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes pieces that just came straight to the socket, and keeps what it does not take. Whoever says that they are the last
    /// tells whoever writes next, who then ends the socket's direction.
    pub(super) fn deliver(&mut self, pieces: &[IoSlice<'_>], are_last: bool) -> Result<Wrote, StreamError> {
        let mut written = 0;
        if self.waiting.is_empty()
            && let Some(outlet) = &self.outlet
        {
            // What fails here fails again for whoever waits to write.
            let write = if are_last { edge::write_last } else { edge::write_vectored };
            written = write(&outlet.socket, pieces).unwrap_or(0);
            outlet.traffic.moved(outlet.sender, written);
        }
        let mut skip = written;
        let mut blocked = false;
        for piece in pieces {
            let from = skip.min(piece.len());
            skip -= from;
            if from < piece.len() {
                blocked = true;
                self.keep(&piece[from..])?;
            }
        }
        if blocked {
            wake(&mut self.reader);
        }
        Ok(Wrote { bytes: written, blocked })
    }

    /// Writes what waits.
    pub(super) fn write_waiting(&mut self) -> io::Result<Wrote> {
        let Some(Outlet { socket, traffic, sender }) = &self.outlet else {
            return Ok(Wrote { bytes: 0, blocked: true });
        };
        let mut bytes = 0;
        while !self.waiting.is_empty() {
            let mut skip = self.written;
            let pieces =
                self.waiting.iter().take(AT_ONCE).map(|piece| IoSlice::new(&piece[std::mem::take(&mut skip)..]));
            let pieces: Vec<_> = pieces.collect();
            let wanted: usize = pieces.iter().map(|piece| piece.len()).sum();
            let written = match edge::write_vectored(socket, &pieces) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Wrote { bytes, blocked: true }),
                Err(error) => return Err(error),
            };
            traffic.moved(*sender, written);
            bytes += written;
            self.written += written;
            while let Some(first) = self.waiting.front()
                && self.written >= first.len()
            {
                self.written -= first.len();
                self.waiting.pop_front();
            }
            if written < wanted {
                break;
            }
        }
        if let Some(account) = &mut self.account {
            account.shrink(bytes);
        }
        Ok(Wrote { bytes, blocked: !self.waiting.is_empty() })
    }

    /// Nothing more moves: whoever waits is told.
    pub(super) fn breaks(&mut self, why: &StreamError) {
        if self.broken.is_none() {
            self.broken = Some(why.clone());
            self.waiting = VecDeque::new();
            self.account = None;
        }
        self.wake_all();
    }

    pub(super) fn wake_all(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        if let Some(account) = &mut self.account {
            account.grow(bytes.len()).map_err(StreamError::Memory)?;
        }
        match self.waiting.back_mut() {
            Some(last) if last.len() + bytes.len() <= last.capacity().max(PIECE) => last.extend_from_slice(bytes),
            _ => self.waiting.push_back(bytes.to_vec()),
        }
        Ok(())
    }
}

/// Wakes whoever waits, once.
pub(super) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Has the task of `cx` woken next.
pub(super) fn wait(waker: &mut Option<Waker>, cx: &Context<'_>) {
    if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *waker = Some(cx.waker().clone());
    }
}
