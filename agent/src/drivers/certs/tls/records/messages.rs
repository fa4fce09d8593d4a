//! What may come in records after the handshake besides data: alerts, KeyUpdate, tickets (RFC 8446, sections 4.6 and 6).

use rustls::AlertDescription;

use super::cipher::BadRecord;

/// A message that is longer is none of those that may come, in bytes.
const LONGEST_MESSAGE: usize = 16 * 1024;

/// After so many messages without data in between, the peer only wants to keep us busy.
const MOST_IN_A_ROW: u32 = 32;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// What the peer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing that matters, or not all of it yet.
    Nothing,
    /// It sends nothing more.
    Closes,
    /// It has a new key from the next record on; `asks` for one of ours, too.
    NewKey {
        /// Whether we have to follow.
        asks: bool,
    },
}

/// Why records cannot go on; final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::drivers::certs::tls) enum RecordError {
    /// The peer broke off.
    #[error("the peer broke off with the TLS alert {0:?}")]
    Refused(AlertDescription),
    /// The peer broke the protocol.
    #[error("the peer broke TLS: {what}")]
    Broken {
        /// What it did.
        what: &'static str,
        /// What we say to it.
        alert: AlertDescription,
    },
}

impl RecordError {
    pub(super) const fn unexpected(what: &'static str) -> Self {
        Self::Broken { what, alert: AlertDescription::UnexpectedMessage }
    }

    const fn malformed(what: &'static str) -> Self {
        Self::Broken { what, alert: AlertDescription::DecodeError }
    }

    /// What to tell the peer: nothing, if it was the peer that told us.
    pub(super) fn answer(self) -> Option<AlertDescription> {
        match self {
            Self::Refused(_) => None,
            Self::Broken { alert, .. } => Some(alert),
        }
    }
}

impl From<BadRecord> for RecordError {
    fn from(bad: BadRecord) -> Self {
        let (what, alert) = match bad {
            BadRecord::Tag => ("a record was changed on the way", AlertDescription::BadRecordMac),
            BadRecord::Overflow => ("a record is too long", AlertDescription::RecordOverflow),
            BadRecord::Type => ("a record of no known type", AlertDescription::UnexpectedMessage),
        };
        Self::Broken { what, alert }
    }
}

/// Reads messages, which may come in parts.
#[derive(Debug, Default)]
pub(super) struct Messages {
    begun: Vec<u8>,
    in_a_row: u32,
}

impl Messages {
    /// Data came.
    pub(super) fn data(&mut self, length: usize) -> Result<(), RecordError> {
        if !self.begun.is_empty() {
            return Err(RecordError::unexpected("data in the middle of a message"));
        }
        if length > 0 {
            self.in_a_row = 0;
            return Ok(());
        }
        self.one_more()
    }

    /// The plain text of an alert.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else an alert says, it is the end")]
    pub(super) fn alert(&mut self, text: &[u8]) -> Result<Said, RecordError> {
        let &[_, description] = text else { return Err(RecordError::malformed("an alert of the wrong length")) };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => Ok(Said::Closes),
            AlertDescription::UserCanceled => self.one_more().map(|()| Said::Nothing),
            fatal => Err(RecordError::Refused(fatal)),
        }
    }

    /// The plain text of a handshake record.
    pub(super) fn handshake(&mut self, text: &[u8]) -> Result<Said, RecordError> {
        self.one_more()?;
        self.begun.extend_from_slice(text);
        while let Some((kind, length)) = self.next()? {
            let rest = self.begun.split_off(4 + length);
            let message = std::mem::replace(&mut self.begun, rest);
            match kind {
                // Nothing is ever resumed.
                NEW_SESSION_TICKET => {}
                KEY_UPDATE => return self.key_update(&message[4..]),
                _ => return Err(RecordError::unexpected("a handshake message after the handshake")),
            }
        }
        Ok(Said::Nothing)
    }

    /// The first message's type and length, once all of it is there.
    fn next(&self) -> Result<Option<(u8, usize)>, RecordError> {
        let &[kind, high, middle, low, ..] = &*self.begun else { return Ok(None) };
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        if length > LONGEST_MESSAGE {
            return Err(RecordError::malformed("a message is too long"));
        }
        Ok((self.begun.len() >= 4 + length).then_some((kind, length)))
    }

    /// Keys change between records, so nothing may follow in this one (RFC 8446, section 5.1).
    fn key_update(&self, text: &[u8]) -> Result<Said, RecordError> {
        if !self.begun.is_empty() {
            return Err(RecordError::unexpected("something follows a KeyUpdate in its record"));
        }
        match text {
            [0] => Ok(Said::NewKey { asks: false }),
            [1] => Ok(Said::NewKey { asks: true }),
            _ => Err(RecordError::Broken { what: "a malformed KeyUpdate", alert: AlertDescription::IllegalParameter }),
        }
    }

    fn one_more(&mut self) -> Result<(), RecordError> {
        self.in_a_row += 1;
        if self.in_a_row > MOST_IN_A_ROW {
            return Err(RecordError::unexpected("too many records without data"));
        }
        Ok(())
    }
}

/// The message that tells the peer of our new key.
pub(super) const OUR_KEY_UPDATE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

/// An alert's plain text: closing is a warning, all else is fatal.
pub(super) fn alert(description: AlertDescription) -> [u8; 2] {
    let level = if description == AlertDescription::CloseNotify { 1 } else { 2 };
    [level, u8::from(description)]
}
