//! What a tunnel's peer has done.

use std::ops::Range;

use crate::drivers::tunnel::connect::{ConnectError, ConnectRequest};
use crate::drivers::tunnel::error::ResetReason;
use crate::drivers::tunnel::refusal::Refusal;
use crate::model::baggage::BaggageText;

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The client asks for a connection.
    Open(u32, Box<Result<ConnectRequest, ConnectError>>),
    /// The server has made it.
    Accepted(u32, BaggageText),
    /// The server has not, and will not.
    Refused(u32, Refusal),
    /// Bytes came; where they lie in what was received.
    Data(u32, Range<usize>),
    /// The peer sends nothing more in the stream.
    Finished(u32),
    /// The stream is gone.
    Reset(u32, ResetReason),
    /// More may be sent in the stream.
    Credit(u32),
    /// The peer takes no further streams.
    GoingAway,
}
