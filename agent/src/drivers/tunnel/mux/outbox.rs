//! What a tunnel is about to send, in order.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::task::{Context, Waker};

use tokio::net::TcpStream;

use super::frame::HEADER;
use crate::drivers::tunnel::edge::{self, Read};
use crate::runtime::records::{Batch, Room};

/// What may wait to be sent before streams have to wait, in bytes: more only delays what is added last.
const LIMIT: usize = 256 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    batches: VecDeque<Batch>,
    waiting: VecDeque<Waker>,
}

/// Where bytes come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// This socket, after so many bytes that were sent before, and 0 from when they are out.
    TakeAfter(&'a Cell<usize>, &'a TcpStream),
    /// This socket, after so many bytes that were taken before; it keeps all of them.
    PeekAfter(usize, &'a TcpStream),
}

impl Source<'_> {
    fn read(self, batch: &mut Batch, room: &Room) -> io::Result<Read> {
        match self {
            Self::PeekAfter(known, socket) => edge::peek_after(socket, known, batch.first_slice(room)),
            Self::TakeAfter(known, socket) if known.get() > 0 => {
                edge::read_after(socket, known.get(), batch.first_slice(room)).inspect(|_| known.set(0))
            }
            Self::TakeAfter(_, socket) if room.len() == 1 => {
                edge::read(socket, &mut [IoSliceMut::new(batch.first_slice(room))])
            }
            Self::TakeAfter(_, socket) => edge::read(socket, &mut batch.slices(room).collect::<Vec<_>>()),
        }
    }
}

/// What came of reading a socket.
#[derive(Debug)]
pub(super) enum Taken {
    /// Some bytes.
    Bytes {
        /// How many.
        length: usize,
        /// Whether that was all there was room for.
        is_full: bool,
        /// Whether the socket's end comes after them.
        is_last: bool,
    },
    /// Nothing is there.
    Nothing,
    /// Its end.
    End,
}

impl Outbox {
    /// Whether streams may add something; else the task of `cx` is woken once they may.
    pub(super) fn has_room(&mut self, cx: &Context<'_>) -> bool {
        if self.waits() < LIMIT {
            return true;
        }
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push_back(cx.waker().clone());
        }
        false
    }

    /// How much waits, in bytes: streams stop at the limit, answers do not.
    pub(super) fn waits(&self) -> usize {
        self.batches.iter().map(Batch::plain_len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        // One that was made room in and then not used may be there.
        self.batches.iter().all(Batch::is_empty)
    }

    /// Adds frames.
    pub(super) fn add(&mut self, mut frames: &[u8]) {
        while !frames.is_empty() {
            let taken = self.open().fill(frames);
            frames = &frames[taken..];
            if taken == 0 {
                self.batches.push_back(Batch::new());
            }
        }
    }

    /// Reads at most `most` bytes from a source, in up to `records` records, straight to where they are sealed. `head` makes
    /// the head of each part.
    pub(super) fn take_from(
        &mut self,
        source: Source<'_>,
        most: usize,
        records: usize,
        head: impl FnMut(usize) -> [u8; HEADER],
    ) -> io::Result<Taken> {
        let batch = self.open();
        let room = match batch.room(HEADER, most, records) {
            Some(room) => room,
            None => {
                self.batches.push_back(Batch::new());
                let Some(room) = self.open().room(HEADER, most, records) else { return Ok(Taken::Nothing) };
                room
            }
        };
        let batch = self.open();
        match source.read(batch, &room) {
            Ok(Read { length: 0, is_last }) => Ok(if is_last { Taken::End } else { Taken::Nothing }),
            Ok(Read { length, is_last }) => {
                batch.commit(&room, length, head);
                Ok(Taken::Bytes { length, is_full: length == room.bytes(), is_last })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Taken::Nothing),
            Err(error) => Err(error),
        }
    }

    /// What is to be sent next.
    pub(super) fn front(&mut self) -> Option<&mut Batch> {
        // A batch that was made room in and then not used.
        while self.batches.front().is_some_and(Batch::is_empty) {
            self.batches.pop_front();
        }
        self.batches.front_mut()
    }

    /// It has been sent.
    pub(super) fn pop(&mut self) {
        self.batches.pop_front();
        self.waiting.drain(..).for_each(Waker::wake);
    }

    /// The batch that takes what is added.
    fn open(&mut self) -> &mut Batch {
        if self.batches.back().is_none_or(Batch::is_sealed) {
            self.batches.push_back(Batch::new());
        }
        self.batches.back_mut().expect("one was just added")
    }
}
