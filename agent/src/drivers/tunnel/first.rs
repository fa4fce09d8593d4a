//! What an application says before it is known whether its connection is made.

use std::cell::Cell;

use tokio::net::TcpStream;

use crate::drivers::tunnel::edge;

/// The first bytes of a connection. They may be sent along with the request for it, which saves waiting for the answer, and stay in the
/// application's socket until that comes: a request that was refused can be made again elsewhere.
///
/// Where no answer came, nobody knows whether they have reached the application at the other end ([`Self::are_under_way`]):
/// such a request must not be made again.
#[derive(Debug)]
pub struct FirstBytes<'a> {
    socket: Option<&'a TcpStream>,
    under_way: Cell<usize>,
    /// Whether they wait for the answer.
    left: Cell<bool>,
}

impl<'a> FirstBytes<'a> {
    /// Those of this socket.
    #[must_use]
    pub fn of(socket: &'a TcpStream) -> Self {
        Self { socket: Some(socket), ..Self::none() }
    }

    /// Nothing is sent before the answer.
    #[must_use]
    pub fn none() -> Self {
        Self { socket: None, under_way: Cell::new(0), left: Cell::new(false) }
    }

    /// Whether some have been sent with a request that was not answered.
    #[must_use]
    pub fn are_under_way(&self) -> bool {
        self.under_way.get() > 0
    }

    /// Where they are and how many of them have been sent, if more may go along with the request that is being made: `most` in all.
    pub(super) fn to_be_sent(&self, most: usize) -> Option<(&'a TcpStream, usize)> {
        let sent = self.under_way.get();
        self.socket.filter(|_| sent < most && !self.left.get()).map(|socket| (socket, sent))
    }

    /// So many more have been sent.
    pub(super) fn sent(&self, length: usize) {
        self.under_way.set(self.under_way.get() + length);
    }

    /// They wait for the answer of the request that is being made.
    pub(super) fn leave(&self) {
        self.left.set(true);
    }

    /// The request was granted: how many had been sent.
    pub(super) fn arrived(&self) -> usize {
        self.left.set(false);
        self.under_way.take()
    }

    /// The request was refused: whoever reads the socket next finds them all.
    pub(super) fn refused(&self) {
        if self.arrived() > 0
            && let Some(socket) = self.socket
        {
            edge::tell_again(socket);
        }
    }
}
