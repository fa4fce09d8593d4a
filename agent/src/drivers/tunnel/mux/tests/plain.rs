//! Records that are not sealed: what the tunnel needs of them, over any byte stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::runtime::records::{Batch, HEAD, Received, Records, TAIL};

/// A record is its length, its text and an empty tail.
pub(super) struct Plain<IO> {
    io: IO,
    partial: Vec<u8>,
}

impl<IO> Plain<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self { io, partial: Vec::new() }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Records for Plain<IO> {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut Received) -> Poll<io::Result<bool>> {
        into.pieces.clear();
        while into.pieces.is_empty() {
            let held = self.partial.len();
            let mut buffer = ReadBuf::new(&mut into.bytes[held..]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            let end = held + buffer.filled().len();
            if end == held {
                return Poll::Ready(if held == 0 { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) });
            }
            into.bytes[..held].copy_from_slice(&self.partial);
            let mut at = 0;
            while let Some(head) = into.bytes[at..end].first_chunk::<HEAD>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if at + HEAD + length + TAIL > end {
                    break;
                }
                into.pieces.push(at + HEAD..at + HEAD + length);
                at += HEAD + length + TAIL;
            }
            self.partial = into.bytes[at..end].to_vec();
        }
        Poll::Ready(Ok(true))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, batch: Option<&mut Batch>) -> Poll<io::Result<()>> {
        let Some(batch) = batch else { return Poll::Ready(Ok(())) };
        if !batch.is_sealed() {
            batch.seal(|record, length| record[1..HEAD].copy_from_slice(&(length as u32).to_be_bytes()));
        }
        while !batch.unsent().is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, batch.unsent()))?;
            batch.sent(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
