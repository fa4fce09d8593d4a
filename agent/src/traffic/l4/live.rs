//! The connections that a data-plane thread carries at this moment, for operators.
//!
//! Each thread has a table of its own and enters and leaves in constant time. Whoever wants to see it asks the thread, which
//! answers with copies of so many entries that nobody's bytes wait for it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::oneshot;

use super::record::Connection;
use super::relay::Traffic;

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

/// The table of one thread.
#[derive(Debug, Default)]
pub struct Live(RefCell<Slab<Entry>>);

#[derive(Debug)]
struct Entry {
    connection: Rc<Connection>,
    traffic: Rc<Traffic>,
    begun: Instant,
}

/// Keeps a connection in the table until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    table: Rc<Live>,
    key: usize,
}

impl Live {
    /// Shows a connection until the place is dropped.
    pub(super) fn enter(self: &Rc<Self>, connection: Rc<Connection>, traffic: Rc<Traffic>, begun: Instant) -> Place {
        let key = self.0.borrow_mut().insert(Entry { connection, traffic, begun });
        Place { table: Rc::clone(self), key }
    }

    /// Answers a question.
    pub fn look(&self, Look { from, answer }: Look) {
        // Whoever asked may be gone.
        let _gone = answer.send(self.seen(from, Instant::now()));
    }

    fn seen(&self, from: usize, now: Instant) -> Seen {
        let table = self.0.borrow();
        let until = from.saturating_add(AT_ONCE);
        // By number: iterating over the table from its beginning would not be bounded.
        let entries = (from..until.min(table.capacity())).filter_map(|key| Some((key, table.get(key)?.shown(now))));
        let connections = entries.collect();
        Seen { connections, next: (until < table.capacity()).then_some(until), total: table.len() }
    }
}

impl Entry {
    fn shown(&self, now: Instant) -> Open {
        Open {
            connection: (*self.connection).clone(),
            from_client: self.traffic.from_client.get(),
            from_server: self.traffic.from_server.get(),
            age: now.saturating_duration_since(self.begun),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.table.0.borrow_mut().try_remove(self.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::labels::Reporter;

    fn enter(live: &Rc<Live>, port: u16) -> (Place, Rc<Traffic>) {
        let (from, to) = (([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], 80).into());
        let traffic = Rc::<Traffic>::default();
        let connection = Rc::new(Connection::between(Reporter::Source, from, to));
        (live.enter(connection, Rc::clone(&traffic), Instant::now()), traffic)
    }

    fn ask(live: &Live, from: usize) -> Seen {
        let (answer, mut seen) = oneshot::channel();
        live.look(Look { from, answer });
        seen.try_recv().unwrap()
    }

    #[test]
    fn an_entry_shows_what_has_moved_so_far_and_leaves_with_its_place() {
        let live = Rc::new(Live::default());
        let (place, traffic) = enter(&live, 1);
        traffic.from_client.set(7);
        let seen = ask(&live, 0);
        assert_eq!((seen.total, seen.next, seen.connections[0].1.from_client), (1, None, 7));
        drop(place);
        let seen = ask(&live, 0);
        assert!(seen.total == 0 && seen.connections.is_empty());
    }

    #[test]
    fn a_large_table_is_shown_piece_by_piece_whatever_is_missing_in_it() {
        let live = Rc::new(Live::default());
        let mut places: Vec<_> = (0..1000).map(|port| Some(enter(&live, port))).collect();
        places.iter_mut().skip(100).take(600).for_each(|place| *place = None);
        let (mut ports, mut from, mut answers) = (Vec::new(), Some(0), 0);
        while let Some(next) = from {
            let seen = ask(&live, next);
            assert!(seen.connections.len() <= AT_ONCE);
            ports.extend(seen.connections.iter().map(|(_, open)| open.connection.source.port()));
            (from, answers) = (seen.next, answers + 1);
        }
        let expected: Vec<u16> = (0..100).chain(700..1000).collect();
        assert_eq!((ports, answers), (expected, 1024 / AT_ONCE));
        assert!(ask(&live, usize::MAX).connections.is_empty());
    }
}
