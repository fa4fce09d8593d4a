//! How much a connection has moved.

use std::cell::Cell;

/// Bytes that a connection has moved so far. Written by its thread alone.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the client to the server.
    pub from_client: Cell<u64>,
    /// From the server to the client.
    pub from_server: Cell<u64>,
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The side that made the connection.
    Client,
    /// The side that accepted it.
    Server,
}

impl Sender {
    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl Traffic {
    /// Bytes of this side.
    #[must_use]
    pub fn of(&self, sender: Sender) -> &Cell<u64> {
        match sender {
            Sender::Client => &self.from_client,
            Sender::Server => &self.from_server,
        }
    }

    /// So many bytes more have reached the other side.
    pub fn moved(&self, sender: Sender, bytes: usize) {
        let count = self.of(sender);
        count.set(count.get() + bytes as u64);
    }
}
