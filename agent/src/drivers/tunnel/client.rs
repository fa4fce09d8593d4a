//! The end of a tunnel that opens connections, in either protocol.

use crate::model::baggage::BaggageText;

use super::connect::ConnectRequest;
use super::error::OpenError;
use super::first::FirstBytes;
use super::hbone;
use super::mux::MuxClient;
use super::stream::Stream;

/// Opens connections through one tunnel. Clones are the same.
#[derive(Clone, Debug)]
pub enum Client {
    /// HTTP/2 CONNECT.
    Hbone(hbone::client::Client),
    /// `sotto/1`
    Mux(MuxClient),
}

/// A connection that the peer accepted.
#[derive(Debug)]
pub struct Opened {
    /// Its bytes.
    pub stream: Stream,
    /// The workload at the other end, as its node describes it; empty if it was not told.
    pub baggage: BaggageText,
}

impl Client {
    /// Asks the peer for a connection and waits for its answer, which may take as long as the peer's own dial. Dropping
    /// the future cancels the request. What the application says meanwhile may go along with it.
    ///
    /// # Errors
    /// [`OpenError`] tells a refusal from a tunnel that did not take the request and from one that broke meanwhile.
    pub async fn open(&self, request: &ConnectRequest, first: &FirstBytes<'_>) -> Result<Opened, OpenError> {
        match self {
            Self::Hbone(client) => {
                let hbone::client::Opened { stream, baggage } = client.open(request).await?;
                Ok(Opened { stream: Stream::Hbone(Box::new(stream)), baggage })
            }
            Self::Mux(client) => {
                let (stream, baggage) = client.open(request, first).await?;
                Ok(Opened { stream: Stream::Mux(stream), baggage })
            }
        }
    }

    /// How many streams are open or being opened.
    #[must_use]
    pub fn live(&self) -> usize {
        match self {
            Self::Hbone(client) => client.live(),
            Self::Mux(client) => client.live(),
        }
    }

    /// Whether it makes sense to open another stream here.
    #[must_use]
    pub fn can_open(&self) -> bool {
        match self {
            Self::Hbone(client) => client.can_open(),
            Self::Mux(client) => client.can_open(),
        }
    }

    /// Whether a bulk transfer goes through, beside which a new stream would wait. Not known of HBONE.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Hbone(_) => false,
            Self::Mux(client) => client.is_busy(),
        }
    }

    /// Whether the tunnel has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Hbone(client) => client.is_closed(),
            Self::Mux(client) => client.is_closed(),
        }
    }

    /// Opens nothing more, here and in every clone; the tunnel ends when its live streams have.
    pub fn close(&self) {
        match self {
            Self::Hbone(client) => client.close(),
            Self::Mux(client) => client.close(),
        }
    }
}
