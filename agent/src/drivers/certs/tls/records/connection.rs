//! A connection after its handshake: records in and out, keys replaced in time.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::kernel::KernelConnection;
use rustls::{AlertDescription, ConnectionTrafficSecrets, Error, ExtractedSecrets};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::cipher::{Cipher, ContentType, KEY_USES, TAG};
use super::messages::{self, Messages, OUR_KEY_UPDATE, RecordError, Said};
use crate::runtime::records::{Batch, HEAD, MOST, Received, Records, TAIL};

/// The longest body of a record (RFC 8446, section 5.2), in bytes.
const LONGEST_BODY: usize = MOST + 256;

/// Where the next keys come from.
pub(in crate::drivers::certs::tls) trait KeySchedule: Send {
    /// The next key to send with.
    fn next_to_send(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error>;
    /// The next key of the peer.
    fn next_to_receive(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error>;
}

impl<Side: Send> KeySchedule for KernelConnection<Side> {
    fn next_to_send(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.update_tx_secret()
    }

    fn next_to_receive(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.update_rx_secret()
    }
}

/// What a handshake leaves behind.
pub(in crate::drivers::certs::tls) struct Established {
    /// The first keys.
    pub(in crate::drivers::certs::tls) secrets: ExtractedSecrets,
    /// The next ones.
    pub(in crate::drivers::certs::tls) schedule: Box<dyn KeySchedule>,
    /// Data that came with the end of the handshake, opened.
    pub(in crate::drivers::certs::tls) early: Vec<u8>,
    /// What came behind it, as it came.
    pub(in crate::drivers::certs::tls) rest: Vec<u8>,
}

/// See the module.
pub struct RecordConnection<IO> {
    io: IO,
    sealer: Cipher,
    opener: Cipher,
    schedule: Box<dyn KeySchedule>,
    messages: Messages,
    early: Vec<u8>,
    /// The beginning of a record whose end has not come.
    partial: Vec<u8>,
    outgoing: Outgoing,
    key_uses: u64,
    received: Result<Open, RecordError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Yes,
    No,
}

/// Records of our own, between those of batches.
#[derive(Debug, Default)]
struct Outgoing {
    sealed: Vec<u8>,
    sent: usize,
    new_key: bool,
    closing: bool,
}

impl<IO> RecordConnection<IO> {
    pub(in crate::drivers::certs::tls) fn new(io: IO, established: Established) -> Result<Self, Error> {
        let Established { secrets, schedule, early, rest } = established;
        Ok(Self {
            io,
            sealer: Cipher::new(secrets.tx)?,
            opener: Cipher::new(secrets.rx)?,
            schedule,
            messages: Messages::default(),
            early,
            partial: rest,
            outgoing: Outgoing::default(),
            key_uses: KEY_USES,
            received: Ok(Open::Yes),
        })
    }

    /// The connection underneath.
    #[must_use]
    pub fn io(&self) -> &IO {
        &self.io
    }

    /// Replaces keys after so many records.
    #[cfg(test)]
    pub(in crate::drivers::certs) fn replace_keys_after(&mut self, records: u64) {
        self.key_uses = records;
    }

    /// Opens the complete records in `bytes`, and says how much of it they are.
    fn open_all(&mut self, bytes: &mut [u8], pieces: &mut Vec<Range<usize>>) -> Result<usize, RecordError> {
        let mut at = 0;
        while self.received == Ok(Open::Yes)
            && let Some(length) = complete(&bytes[at..])?
        {
            let body = at + HEAD;
            let (head, rest) = bytes[at..body + length].split_first_chunk_mut().expect("a record has a header");
            let (kind, text) = self.opener.open(*head, rest)?;
            let text = body..body + text;
            self.take(kind, text, bytes, pieces)?;
            at = body + length;
        }
        Ok(at)
    }

    fn take(
        &mut self,
        kind: ContentType,
        text: Range<usize>,
        bytes: &[u8],
        pieces: &mut Vec<Range<usize>>,
    ) -> Result<(), RecordError> {
        let said = match kind {
            ContentType::ApplicationData => {
                self.messages.data(text.len())?;
                pieces.extend((!text.is_empty()).then_some(text));
                return Ok(());
            }
            ContentType::Alert => self.messages.alert(&bytes[text])?,
            ContentType::Handshake => self.messages.handshake(&bytes[text])?,
        };
        match said {
            Said::Nothing => {}
            Said::Closes => self.received = Ok(Open::No),
            Said::NewKey { asks } => {
                self.opener = self.schedule.next_to_receive().and_then(Cipher::new).map_err(|_| NO_KEY)?;
                self.outgoing.new_key |= asks;
            }
        }
        Ok(())
    }

    /// What was said before decides what comes next.
    fn received_so_far(&self, pieces: &[Range<usize>]) -> Option<io::Result<bool>> {
        if !pieces.is_empty() {
            return Some(Ok(true));
        }
        match self.received {
            Ok(Open::Yes) => None,
            Ok(Open::No) => Some(Ok(false)),
            Err(error) => Some(Err(io::Error::new(io::ErrorKind::InvalidData, error))),
        }
    }

    fn seal_own(&mut self, kind: ContentType, text: &[u8]) {
        let at = self.outgoing.sealed.len();
        self.outgoing.sealed.resize(at + HEAD + text.len() + TAIL, 0);
        self.outgoing.sealed[at + HEAD..at + HEAD + text.len()].copy_from_slice(text);
        self.sealer.seal(&mut self.outgoing.sealed[at..], text.len(), kind);
    }

    /// Between two batches: tells the peer of a new key, if it is time for one, and uses it from here on.
    fn replace_key(&mut self, records: usize) -> io::Result<()> {
        if !self.outgoing.new_key && self.sealer.uses() + (records as u64) < self.key_uses {
            return Ok(());
        }
        self.outgoing.new_key = false;
        self.seal_own(ContentType::Handshake, &OUR_KEY_UPDATE);
        let next = self.schedule.next_to_send().and_then(Cipher::new);
        self.sealer = next.map_err(io::Error::other)?;
        Ok(())
    }
}

const NO_KEY: RecordError =
    RecordError::Broken { what: "no key follows the last one", alert: AlertDescription::InternalError };

/// The length of the first record's body, if all of it is there.
fn complete(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
    let &[kind, _, _, high, low, ..] = bytes else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if kind != ContentType::ApplicationData as u8 {
        return Err(RecordError::unexpected("a record that is not sealed"));
    }
    if length > LONGEST_BODY {
        return Err(RecordError::Broken { what: "a record is too long", alert: AlertDescription::RecordOverflow });
    }
    if length <= TAG {
        return Err(RecordError::Broken { what: "a record is too short", alert: AlertDescription::BadRecordMac });
    }
    Ok((bytes.len() >= HEAD + length).then_some(length))
}

impl<IO: AsyncRead + AsyncWrite + Unpin> RecordConnection<IO> {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(into);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_send_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Outgoing { sealed, sent, .. } = &mut self.outgoing;
        while *sent < sealed.len() {
            *sent += write(ready!(Pin::new(&mut self.io).poll_write(cx, &sealed[*sent..]))?)?;
        }
        sealed.clear();
        *sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Records for RecordConnection<IO> {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut Received) -> Poll<io::Result<bool>> {
        let Received { bytes, pieces } = into;
        pieces.clear();
        if !self.early.is_empty() {
            let length = self.early.len().min(bytes.len());
            bytes[..length].copy_from_slice(&self.early[..length]);
            self.early.drain(..length);
            pieces.push(0..length);
        }
        // A handshake may leave complete records behind.
        let mut fresh = 0;
        loop {
            if let Some(done) = self.received_so_far(pieces) {
                return Poll::Ready(done);
            }
            let held = self.partial.len();
            if fresh > 0 || complete(&self.partial).is_ok_and(|whole| whole.is_none()) {
                match ready!(self.poll_read(cx, &mut bytes[held..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    length => fresh = length,
                }
            }
            bytes[..held].copy_from_slice(&self.partial);
            let filled = &mut bytes[..held + fresh];
            match self.open_all(filled, pieces) {
                Ok(used) => {
                    self.partial.clear();
                    self.partial.extend_from_slice(&filled[used..]);
                }
                Err(error) => self.fail(error),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, batch: Option<&mut Batch>) -> Poll<io::Result<()>> {
        let Some(batch) = batch else {
            self.replace_key(0)?;
            return self.poll_send_own(cx);
        };
        if !batch.is_sealed() {
            self.replace_key(batch.records().len())?;
            ready!(self.poll_send_own(cx))?;
            batch.seal(|record, length| self.sealer.seal(record, length, ContentType::ApplicationData));
        }
        while !batch.unsent().is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, batch.unsent()))?;
            batch.sent(write(written)?);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.outgoing.closing {
            self.outgoing.closing = true;
            self.seal_own(ContentType::Alert, &messages::alert(AlertDescription::CloseNotify));
        }
        ready!(self.poll_send_own(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<IO> RecordConnection<IO> {
    /// Nothing more is received. The peer is told why, with the next that is sent.
    fn fail(&mut self, error: RecordError) {
        self.received = Err(error);
        if let Some(alert) = error.answer()
            && !self.outgoing.closing
        {
            self.outgoing.closing = true;
            self.seal_own(ContentType::Alert, &messages::alert(alert));
        }
    }
}

/// A connection that takes nothing is closed.
fn write(written: usize) -> io::Result<usize> {
    if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
}

impl<IO> std::fmt::Debug for RecordConnection<IO> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordConnection").field("received", &self.received).finish_non_exhaustive()
    }
}
