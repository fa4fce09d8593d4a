//! Connections that are open: their bytes are counted while they live, and each has one end, whatever happens.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::connection::Connection;
use super::line::{Event, Line};
use crate::drivers::tunnel::StreamError;
use crate::telemetry::labels::ResponseFlags;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::series::{Counted, forget_parties};
use crate::traffic::l4::relay::{RelayError, Traffic};

/// How often the bytes of open connections are counted: a few times between two scrapes.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// After how many reports a thread forgets the parties that it has seen.
const REPORTS_BEFORE_FORGETTING: u32 = 12;

thread_local! {
    /// What this thread carries.
    static OPEN: RefCell<Slab<Rc<Open>>> = RefCell::default();
}

/// One open connection, as one of its two sides.
#[derive(Debug)]
pub struct Open {
    /// Who talks to whom.
    pub connection: Connection,
    /// What it has moved so far.
    pub traffic: Rc<Traffic>,
    /// Since when.
    pub begun: Instant,
    metrics: Arc<Metrics>,
    counted: Counted,
    /// Bytes from the client and the server that are in the counters by now.
    reported: Cell<(u64, u64)>,
}

/// The record of one connection from now to its end. Dropped, it tells that the connection was cut.
#[derive(Debug)]
pub struct Record {
    open: Rc<Open>,
    number: usize,
    has_ended: bool,
}

/// Calls `visit` with every connection of this thread.
pub fn each_open(mut visit: impl FnMut(&Open)) {
    OPEN.with_borrow(|all| all.iter().for_each(|(_, open)| visit(open)));
}

/// Calls `visit` with the connections at `places` places of this thread's list from `from` on, and says where to go on; none if
/// that was the end. For whoever wants to see them all without keeping the thread from its work.
pub fn look_at_open(from: usize, places: usize, mut visit: impl FnMut(usize, &Open)) -> Option<usize> {
    OPEN.with_borrow(|all| {
        let end = from.saturating_add(places);
        (from..end.min(all.capacity()))
            .filter_map(|place| Some((place, all.get(place)?)))
            .for_each(|(place, open)| visit(place, open));
        (end < all.capacity()).then_some(end)
    })
}

/// How many connections this thread carries.
#[must_use]
pub fn count_open() -> usize {
    OPEN.with_borrow(Slab::len)
}

/// Counts, now and then, the bytes of this thread's connections. Never completes.
pub async fn keep_reporting(metrics: &Metrics) {
    let mut reports: u32 = 0;
    loop {
        tokio::time::sleep(REPORT_EVERY).await;
        each_open(Open::report);
        metrics.connections.expire(Instant::now());
        reports = (reports + 1) % REPORTS_BEFORE_FORGETTING;
        if reports == 0 {
            forget_parties();
        }
    }
}

impl Open {
    /// Counts the bytes that were not counted yet.
    pub fn report(&self) {
        let now = (self.traffic.from_client.get(), self.traffic.from_server.get());
        let before = self.reported.replace(now);
        if now != before {
            self.counted.bytes(now.1.saturating_sub(before.1), now.0.saturating_sub(before.0));
        }
    }

    fn line(&self) -> Line<'_> {
        let bytes = (self.traffic.from_client.get(), self.traffic.from_server.get());
        Line { bytes, ..Line::of(&self.connection, &self.metrics, self.begun.elapsed()) }
    }
}

impl Record {
    pub(super) fn new(connection: Connection, metrics: &Arc<Metrics>, begun: Instant, traffic: Rc<Traffic>) -> Self {
        let counted = connection.counted(metrics, ResponseFlags::None);
        counted.opened();
        let metrics = Arc::clone(metrics);
        let open = Rc::new(Open { connection, traffic, begun, metrics, counted, reported: Cell::default() });
        Line { event: Event::Opened, ..open.line() }.write();
        let number = OPEN.with_borrow_mut(|all| all.insert(Rc::clone(&open)));
        Self { open, number, has_ended: false }
    }

    /// The same bytes as the other side tells of them, where this agent speaks for both.
    #[must_use]
    pub fn beside(&self, other: Connection) -> Self {
        Self::new(other, &self.open.metrics, self.open.begun, Rc::clone(&self.open.traffic))
    }

    /// Where the connection's bytes are noted.
    #[must_use]
    pub fn traffic(&self) -> &Rc<Traffic> {
        &self.open.traffic
    }

    /// Counts the bytes so far; a thread that carries connections does that by itself ([`keep_reporting`]).
    pub fn report(&self) {
        self.open.report();
    }

    /// Its place in this thread's list ([`look_at_open`]).
    #[must_use]
    pub fn place(&self) -> usize {
        self.number
    }

    /// Counts and logs the end of the connection.
    pub fn closed(mut self, result: &Result<(), RelayError>) {
        let Open { connection, metrics, .. } = &*self.open;
        let mut line = self.open.line();
        if let Err(error) = result {
            line.error = Some(error);
            metrics.broken.count(connection.reporter, reason(error));
        }
        if let Err(RelayError::Revoked(verdict)) = result
            && connection.verdict.is_some()
        {
            metrics.policy.closed(verdict);
            line.verdict = Some(verdict);
            line.event = Event::Revoked;
        }
        line.write();
        self.end();
    }

    fn end(&mut self) {
        self.open.report();
        self.open.counted.closed();
        self.has_ended = true;
        // A thread that ends may have dropped its list before its connections.
        let _gone = OPEN.try_with(|all| all.borrow_mut().try_remove(self.number));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let cut = "cut by this agent, which ends or no longer carries the pod";
        self.open.metrics.broken.count(self.open.connection.reporter, "cut");
        Line { error: Some(&cut), ..self.open.line() }.write();
        self.end();
    }
}

fn reason(error: &RelayError) -> &'static str {
    match error {
        RelayError::Socket(error) if error.kind() == std::io::ErrorKind::TimedOut => "timed_out",
        RelayError::Socket(_) => "reset",
        RelayError::Stream(StreamError::Memory(_)) => "memory",
        RelayError::Stream(_) => "tunnel",
        RelayError::Revoked(_) => "policy",
    }
}
