//! What can go wrong with a tunnel, with a stream in it, and with opening one.

use std::fmt;
use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::runtime::budget::Exhausted;

use super::refusal::Refusal;

/// Why a tunnel ended, or could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TunnelError {
    /// The peer did not send its preface or its SETTINGS in time.
    #[error(
        "the peer did not begin to speak the tunnel's protocol within {0:?}: is it a mesh node that listens there?"
    )]
    Handshake(Duration),
    /// The peer began a header block and did not finish it in time.
    #[error("the peer did not finish a header block within {0:?}")]
    SlowHeaders(Duration),
    /// Nothing came from the peer, not even the answer to a PING.
    #[error("the peer was silent for {0:?} after a PING: its node or the network is down")]
    Silent(Duration),
    /// The peer closed the tunnel with a GOAWAY.
    #[error("the peer closed the tunnel: {0}")]
    GoAway(ResetReason),
    /// The peer broke the protocol, or a limit of ours, and was sent away.
    #[error("the peer broke the tunnel's protocol or one of our limits: {0}")]
    Protocol(String),
    /// TLS broke, after its handshake.
    #[error("the encryption underneath the tunnel broke: {0}")]
    Records(String),
    /// The connection underneath broke.
    #[error("the connection underneath the tunnel broke: {0}")]
    Io(io::ErrorKind),
    /// The tunnel was closed on our side.
    #[error("the tunnel is closed")]
    Closed,
}

/// Why a stream ended other than by the end of its data.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StreamError {
    /// It was reset: what TCP calls RST.
    #[error("the stream was reset: {0}")]
    Reset(ResetReason),
    /// The whole tunnel ended.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The application does not read, and there is no memory for what waits.
    #[error("the application does not read what it is sent: {0}")]
    Memory(Exhausted),
}

/// Why a connection could not be opened through a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The peer answered with something else than 200: its verdict, another tunnel to it would not change it.
    #[error("the peer refused the connection: {0}")]
    Refused(Refusal),
    /// The peer reset the stream instead of answering.
    #[error("the peer reset the stream before it answered: {0}")]
    Reset(ResetReason),
    /// The peer cannot have acted on the request: it is safe to send it through another tunnel.
    #[error("the tunnel took no new connection: {0}")]
    NotProcessed(#[from] NotProcessed),
    /// The tunnel broke after the request was sent: the peer may have opened a connection to the application, which has
    /// got no data by it but what went along with the request ([`super::FirstBytes`]).
    #[error("the tunnel broke before the peer answered: {0}")]
    Interrupted(TunnelError),
}

/// Why a tunnel did not take a request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotProcessed {
    /// It carries as many streams as it may, or the peer's connection window is exhausted.
    #[error("it is full")]
    Full,
    /// The peer announced that it is going away.
    #[error("it is going away")]
    GoingAway,
    /// The peer refused the stream without looking at it (REFUSED_STREAM).
    #[error("the peer refused the stream")]
    RefusedStream,
    /// It had ended before.
    #[error(transparent)]
    Ended(TunnelError),
    /// The request cannot be written as HTTP.
    #[error("the request cannot be written as HTTP: {0}")]
    Request(String),
}

/// HTTP/2's error codes (RFC 9113, section 7) as far as a relay tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// `NO_ERROR`: the peer needs no more of our data.
    NoError,
    /// `INTERNAL_ERROR`
    Internal,
    /// `REFUSED_STREAM`: not processed.
    Refused,
    /// `CANCEL`: no longer wanted.
    Cancel,
    /// `CONNECT_ERROR`: the TCP connection behind the stream was reset or failed (RFC 9113, section 8.5).
    Connect,
    /// `ENHANCE_YOUR_CALM`: too much of something.
    EnhanceYourCalm,
    /// Any other code.
    Other(u32),
}

impl ResetReason {
    pub(super) fn to_h2(self) -> h2::Reason {
        match self {
            Self::NoError => h2::Reason::NO_ERROR,
            Self::Internal => h2::Reason::INTERNAL_ERROR,
            Self::Refused => h2::Reason::REFUSED_STREAM,
            Self::Cancel => h2::Reason::CANCEL,
            Self::Connect => h2::Reason::CONNECT_ERROR,
            Self::EnhanceYourCalm => h2::Reason::ENHANCE_YOUR_CALM,
            Self::Other(code) => code.into(),
        }
    }
}

impl ResetReason {
    /// Its number, as HTTP/2 has it (RFC 9113, section 7).
    #[must_use]
    pub fn code(self) -> u32 {
        self.to_h2().into()
    }

    /// The reason of a number.
    #[must_use]
    pub fn from_code(code: u32) -> Self {
        h2::Reason::from(code).into()
    }
}

impl From<h2::Reason> for ResetReason {
    fn from(reason: h2::Reason) -> Self {
        match reason {
            h2::Reason::NO_ERROR => Self::NoError,
            h2::Reason::INTERNAL_ERROR => Self::Internal,
            h2::Reason::REFUSED_STREAM => Self::Refused,
            h2::Reason::CANCEL => Self::Cancel,
            h2::Reason::CONNECT_ERROR => Self::Connect,
            h2::Reason::ENHANCE_YOUR_CALM => Self::EnhanceYourCalm,
            other => Self::Other(other.into()),
        }
    }
}

impl fmt::Display for ResetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_h2())
    }
}

impl From<h2::Error> for TunnelError {
    fn from(error: h2::Error) -> Self {
        if let Some(io) = error.get_io() {
            return Self::Io(io.kind());
        }
        match error.reason() {
            Some(reason) if error.is_go_away() && error.is_remote() => Self::GoAway(reason.into()),
            _ => Self::Protocol(error.to_string()),
        }
    }
}

impl From<h2::Error> for StreamError {
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_reset() => Self::Reset(reason.into()),
            _ => Self::Tunnel(error.into()),
        }
    }
}

impl From<h2::Error> for OpenError {
    /// Judges an error that came instead of the answer to a request that was sent. A GOAWAY reaches only the streams
    /// above the last one that the peer processed.
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            Some(h2::Reason::REFUSED_STREAM) if error.is_reset() => NotProcessed::RefusedStream.into(),
            Some(reason) if error.is_reset() => Self::Reset(reason.into()),
            Some(_) if error.is_go_away() && error.is_remote() => NotProcessed::GoingAway.into(),
            _ => Self::Interrupted(error.into()),
        }
    }
}

impl OpenError {
    /// Whether the peer has said that no connection was made, or certainly has not heard of it: no byte of it has reached the
    /// application.
    #[must_use]
    pub fn is_the_peers_answer(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::NotProcessed(_))
    }

    /// Whether the peer certainly did nothing, so that the same request may go through another tunnel.
    #[must_use]
    pub fn is_safe_to_retry(&self) -> bool {
        matches!(self, Self::NotProcessed(_))
    }
}
