//! One TCP stream inside a tunnel, in either protocol.

use std::sync::Arc;

use crate::runtime::budget::Share;

use super::hbone;
use super::mux::MuxStream;

/// A stream, open in both directions. Dropped before both directions have ended, it is reset.
#[derive(Debug)]
pub enum Stream {
    /// HTTP/2 CONNECT. Boxed: it is many times the other's size.
    Hbone(Box<hbone::Stream>),
    /// `sotto/1`
    Mux(MuxStream),
}

impl Stream {
    /// From now on, what waits here for the application has to fit into `share`.
    pub fn charge(&mut self, share: &Arc<Share>) {
        match self {
            Self::Hbone(stream) => stream.recv.charge(share),
            Self::Mux(stream) => stream.charge(share),
        }
    }
}
