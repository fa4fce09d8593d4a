//! The access log: ztunnel's fields in its order, then what policy said. What is missing is left out.

use std::cell::RefCell;
use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use tracing::Level;

use super::connection::Connection;
use crate::model::policy::evaluate::Verdict;
use crate::model::service::Service;
use crate::telemetry::labels::{Reporter, ResponseFlags};
use crate::telemetry::log::ACCESS;
use crate::telemetry::metrics::Metrics;

/// What one line says.
pub(super) struct Line<'a> {
    pub(super) connection: &'a Connection,
    pub(super) cluster: &'a str,
    pub(super) event: Event,
    /// What policy says by now.
    pub(super) verdict: Option<&'a Verdict>,
    /// Bytes from the client and from the server.
    pub(super) bytes: (u64, u64),
    pub(super) lasted: Duration,
    pub(super) flags: ResponseFlags,
    pub(super) error: Option<&'a dyn Display>,
    /// Lines about others that were left out before this one.
    pub(super) suppressed: u64,
}

/// Which moment of a connection a line is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Opened,
    Ended,
}

/// Texts that are made for a line, in memory that the thread keeps: a line costs no allocation of ours.
#[derive(Default)]
struct Scratch {
    target: String,
    service: String,
    identities: [String; 2],
    duration: String,
    error: String,
    policy: String,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

macro_rules! event {
    ($level:ident, $message:literal, $line:expr, $scratch:expr) => {{
        let (line, scratch): (&Line<'_>, &Scratch) = ($line, $scratch);
        let c = line.connection;
        let [source, destination] = [&c.source_workload, &c.destination_workload].map(Option::as_deref);
        let (sent, received) = line.sent_and_received();
        tracing::event!(
            target: ACCESS,
            Level::$level,
            src.addr = %c.source,
            src.workload = source.map(|w| &*w.pod.name),
            src.namespace = source.map(|w| &*w.pod.namespace),
            src.identity = given(&scratch.identities[0]),
            src.cluster = source.map(|_| line.cluster),
            dst.addr = %c.destination,
            dst.hbone_addr = given(&scratch.target),
            dst.service = given(&scratch.service),
            dst.workload = destination.map(|w| &*w.pod.name),
            dst.namespace = destination.map(|w| &*w.pod.namespace),
            dst.identity = given(&scratch.identities[1]),
            dst.cluster = destination.map(|_| line.cluster),
            direction = line.direction(),
            bytes_sent = sent,
            bytes_recv = received,
            duration = given(&scratch.duration),
            error = given(&scratch.error),
            policy = given(&scratch.policy),
            reason = line.reason(),
            suppressed = (line.suppressed > 0).then_some(line.suppressed),
            $message
        );
    }};
}

impl<'a> Line<'a> {
    /// A line about the end of a connection that had no end of its own yet.
    pub(super) fn of(connection: &'a Connection, metrics: &'a Metrics, lasted: Duration) -> Self {
        Self {
            connection,
            cluster: metrics.connections.cluster(),
            event: Event::Ended,
            verdict: connection.verdict.as_ref(),
            bytes: (0, 0),
            lasted,
            flags: ResponseFlags::None,
            error: None,
            suppressed: 0,
        }
    }

    /// Hands the line to the log, which never waits. As in ztunnel: DEBUG when a connection opens, INFO at its end, ERROR at
    /// its failure, and WARN where that is what a policy wanted.
    pub(super) fn write(&self) {
        let enabled = match (self.event, self.error) {
            (Event::Opened, _) => tracing::enabled!(target: ACCESS, Level::DEBUG),
            (Event::Ended, None) => tracing::enabled!(target: ACCESS, Level::INFO),
            (Event::Ended, Some(_)) => tracing::enabled!(target: ACCESS, Level::ERROR),
        };
        if enabled {
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.fill(self);
                match (self.event, self.error, self.flags) {
                    (Event::Opened, ..) => event!(DEBUG, "connection opened", self, scratch),
                    (Event::Ended, None, _) => event!(INFO, "connection complete", self, scratch),
                    (Event::Ended, Some(_), ResponseFlags::Deny) => event!(WARN, "connection denied", self, scratch),
                    (Event::Ended, Some(_), _) => event!(ERROR, "connection failed", self, scratch),
                }
            });
        }
    }

    /// Bytes as this agent sent and received them on the side that it does not speak for.
    fn sent_and_received(&self) -> (Option<u64>, Option<u64>) {
        let (from_client, from_server) = self.bytes;
        let (sent, received) = match self.connection.reporter {
            Reporter::Source => (from_client, from_server),
            Reporter::Destination => (from_server, from_client),
        };
        let ended = |bytes| (self.event == Event::Ended).then_some(bytes);
        (ended(sent), ended(received))
    }

    fn direction(&self) -> &'static str {
        match self.connection.reporter {
            Reporter::Source => "outbound",
            Reporter::Destination => "inbound",
        }
    }

    /// Why it came to this, in one word: where a policy had a part in it, what everybody may do needs no reason; or why it failed.
    fn reason(&self) -> Option<&'static str> {
        let told = |verdict: &&Verdict| !verdict.allowed() || verdict.decided_by.is_some();
        let by_policy = self.verdict.filter(told).map(|verdict| verdict.reason.code());
        by_policy.or_else(|| self.flags.reason())
    }
}

impl Scratch {
    fn fill(&mut self, line: &Line<'_>) {
        let c = line.connection;
        refill(&mut self.target, c.hbone_target.as_ref());
        refill(&mut self.service, c.service.as_deref().map(Service::host));
        refill(&mut self.identities[0], c.source_identity.as_ref());
        refill(&mut self.identities[1], c.destination_identity.as_ref());
        let lasted = (line.event == Event::Ended).then(|| fmt::from_fn(|f| write!(f, "{}ms", line.lasted.as_millis())));
        refill(&mut self.duration, lasted);
        refill(&mut self.error, line.error);
        refill(&mut self.policy, line.verdict.and_then(Verdict::policy));
    }
}

fn refill(text: &mut String, value: Option<impl Display>) {
    text.clear();
    if let Some(value) = value {
        // Writing into a String cannot fail; a Display that does has said what it could.
        let _written = write!(text, "{value}");
    }
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
