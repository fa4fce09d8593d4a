//! Records as a stream of bytes, for protocols that read and write bytes (HTTP/2).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::RecordConnection;
use crate::runtime::records::{Batch, Received, Records};

/// A [`RecordConnection`] that is read and written as bytes. What is written goes out with a flush, or when a batch is full.
#[derive(Debug)]
pub struct RecordStream<IO> {
    records: RecordConnection<IO>,
    /// Received and not yet read: from `read` on.
    plain: Vec<u8>,
    read: usize,
    batch: Option<Batch>,
}

impl<IO> From<RecordConnection<IO>> for RecordStream<IO> {
    fn from(records: RecordConnection<IO>) -> Self {
        Self { records, plain: Vec::new(), read: 0, batch: None }
    }
}

impl<IO> RecordStream<IO> {
    /// The connection underneath.
    #[must_use]
    pub fn io(&self) -> &IO {
        self.records.io()
    }

    /// Replaces keys after so many records.
    #[cfg(test)]
    pub(in crate::drivers::certs) fn replace_keys_after(&mut self, records: u64) {
        self.records.replace_keys_after(records);
    }

    /// Gives what waits, and lets go of the buffer when nothing is left: an idle connection holds none.
    fn take(&mut self, into: &mut ReadBuf<'_>) {
        let length = into.remaining().min(self.plain.len() - self.read);
        into.put_slice(&self.plain[self.read..self.read + length]);
        self.read += length;
        if self.read == self.plain.len() {
            (self.plain, self.read) = (Vec::new(), 0);
        }
    }

    /// Gives what was received as far as it fits, and keeps the rest.
    fn give(&mut self, received: &Received, into: &mut ReadBuf<'_>) {
        for piece in &received.pieces {
            let piece = &received.bytes[piece.clone()];
            let (now, later) = piece.split_at(piece.len().min(into.remaining()));
            into.put_slice(now);
            self.plain.extend_from_slice(later);
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> RecordStream<IO> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.records.poll_send(cx, self.batch.as_mut()))?;
        self.batch = None;
        Poll::Ready(Ok(()))
    }

    /// Takes some of the parts, at least one byte of what is not empty.
    fn poll_take(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if parts.iter().all(|part| part.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        loop {
            let batch = self.batch.get_or_insert_default();
            let mut taken = 0;
            for part in parts {
                let now = batch.fill(part);
                taken += now;
                if now < part.len() {
                    break;
                }
            }
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
            ready!(self.poll_send(cx))?;
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for RecordStream<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.read == this.plain.len() && into.remaining() > 0 {
            let open = ready!(Received::with(|received| {
                let open = ready!(this.records.poll_receive(cx, received))?;
                this.give(received, into);
                Poll::Ready(io::Result::Ok(open))
            }))?;
            // What the record layer has to answer goes out on the way; whether it can is not the reader's business.
            if open {
                let _later = this.poll_send(cx)?;
            }
        } else {
            this.take(into);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for RecordStream<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_take(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_take(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        self.records.poll_close(cx)
    }
}
