//! The connections that a data-plane thread carries at this moment, for operators.
//!
//! Each thread keeps its own ([`super::record`]). Whoever wants to see them asks the thread, which answers with copies of so many
//! that nobody's bytes wait for it. Direct connections are in the list of the thread of the [director](super::direct::director).

use std::time::Duration;

use tokio::sync::oneshot;

use super::record::{self, Connection};

/// Places of the table that are looked at for one answer: some tenths of a millisecond of the thread's time.
pub const AT_ONCE: usize = 256;

/// A question to a thread: for the connections from this place in its table on.
#[derive(Debug)]
pub struct Look {
    /// The first place to look at.
    pub from: usize,
    /// Gets the answer.
    pub answer: oneshot::Sender<Seen>,
}

/// Some of the connections of one thread.
#[derive(Debug)]
pub struct Seen {
    /// The connections, by their places in the table.
    pub connections: Vec<(usize, Open)>,
    /// Where to look on; none if there is no more.
    pub next: Option<usize>,
    /// How many connections the thread carries.
    pub total: usize,
}

/// An open connection.
#[derive(Clone, Debug)]
pub struct Open {
    /// Between whom.
    pub connection: Connection,
    /// Bytes from the client to the server so far.
    pub from_client: u64,
    /// Bytes from the server to the client so far.
    pub from_server: u64,
    /// How long it has been open.
    pub age: Duration,
}

/// Answers a question on the thread that it is about.
pub fn look(Look { from, answer }: Look) {
    let mut connections = Vec::new();
    let next = record::look_at_open(from, AT_ONCE, |place, open| {
        let seen = Open {
            connection: open.connection.clone(),
            from_client: open.traffic.from_client.get(),
            from_server: open.traffic.from_server.get(),
            age: open.begun.elapsed(),
        };
        connections.push((place, seen));
    });
    // Whoever asked may be gone.
    let _gone = answer.send(Seen { connections, next, total: record::count_open() });
}
