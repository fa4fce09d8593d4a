//! The end of a tunnel that accepts connections, in either protocol.

use std::sync::Arc;

use crate::model::baggage::BaggageText;
use crate::runtime::budget::Share;

use super::connect::{ConnectError, ConnectRequest};
use super::error::StreamError;
use super::hbone;
use super::mux::{MuxIncoming, MuxRespond};
use super::refusal::Refusal;
use super::stream::Stream;

/// A request for a connection, to be answered.
#[derive(Debug)]
pub struct Incoming {
    /// Where to, and on whose behalf; or why it is no request of this kind, to be told and refused with 400.
    pub request: Result<ConnectRequest, ConnectError>,
    /// The way to answer.
    pub respond: Respond,
}

/// The way to answer a request. Dropped without an answer, it refuses with 503.
#[derive(Debug)]
pub enum Respond {
    /// HTTP/2 CONNECT.
    Hbone(hbone::server::Respond),
    /// `sotto/1`
    Mux(MuxRespond),
}

impl Respond {
    /// Accepts, with a description of the destination's workload. To be called once the application's host has accepted
    /// the connection.
    ///
    /// # Errors
    /// [`StreamError`] when the peer gave up meanwhile, or the tunnel ended.
    pub fn accept(self, baggage: Option<&BaggageText>) -> Result<Stream, StreamError> {
        match self {
            Self::Hbone(respond) => Ok(Stream::Hbone(Box::new(respond.accept(baggage)?))),
            Self::Mux(respond) => Ok(Stream::Mux(respond.accept(baggage)?)),
        }
    }

    /// From now on, what the peer sends before the answer has to fit into `share`.
    pub fn charge(&self, share: &Arc<Share>) {
        match self {
            // Its stream is charged when it is accepted: its window holds back what comes before.
            Self::Hbone(_) => {}
            Self::Mux(respond) => respond.charge(share),
        }
    }

    /// Refuses.
    pub fn reject(self, refusal: Refusal) {
        match self {
            Self::Hbone(respond) => respond.reject(refusal),
            Self::Mux(respond) => respond.reject(refusal),
        }
    }

    /// Waits until the peer gives up or the tunnel ends: there is no use in dialing any further then.
    pub async fn cancelled(&mut self) {
        match self {
            Self::Hbone(respond) => respond.cancelled().await,
            Self::Mux(respond) => respond.cancelled().await,
        }
    }
}

impl From<hbone::server::Incoming> for Incoming {
    fn from(incoming: hbone::server::Incoming) -> Self {
        Self { request: incoming.request, respond: Respond::Hbone(incoming.respond) }
    }
}

impl From<MuxIncoming> for Incoming {
    fn from(incoming: MuxIncoming) -> Self {
        Self { request: incoming.request, respond: Respond::Mux(incoming.respond) }
    }
}
