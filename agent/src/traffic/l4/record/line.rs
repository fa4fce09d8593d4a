//! The access log: ztunnel's fields in its order, then what policy said. What is missing is left out.

use std::fmt::{self, Display};
use std::time::Duration;

use tracing::Level;

use super::connection::Connection;
use crate::model::policy::evaluate::Verdict;
use crate::model::service::Service;
use crate::telemetry::access::{self, Fields};
use crate::telemetry::labels::{Reporter, ResponseFlags};
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
    /// By a change of policy.
    Revoked,
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
        let (level, message) = match (self.event, self.error, self.flags) {
            (Event::Opened, ..) => (Level::DEBUG, "connection opened"),
            (Event::Revoked, ..) => (Level::WARN, "connection closed by policy"),
            (Event::Ended, None, _) => (Level::INFO, "connection complete"),
            (Event::Ended, Some(_), ResponseFlags::Deny) => (Level::WARN, "connection denied"),
            (Event::Ended, Some(_), _) => (Level::ERROR, "connection failed"),
        };
        if access::is_enabled(level) {
            access::write(level, message, |fields| self.say(fields));
        }
    }

    fn say(&self, fields: &mut Fields<'_>) {
        let c = self.connection;
        let [source, destination] = [&c.source_workload, &c.destination_workload].map(Option::as_deref);
        let (sent, received) = self.sent_and_received();
        fields.word("src.addr", &c.source);
        fields.text("src.workload", source.map(|w| &*w.pod.name));
        fields.text("src.namespace", source.map(|w| &*w.pod.namespace));
        fields.text("src.identity", c.source_identity.as_ref());
        fields.text("src.cluster", source.map(|_| self.cluster));
        fields.word("dst.addr", &c.destination);
        fields.text("dst.hbone_addr", c.hbone_target.as_ref());
        fields.text("dst.service", c.service.as_deref().map(Service::host));
        fields.text("dst.workload", destination.map(|w| &*w.pod.name));
        fields.text("dst.namespace", destination.map(|w| &*w.pod.namespace));
        fields.text("dst.identity", c.destination_identity.as_ref());
        fields.text("dst.cluster", destination.map(|_| self.cluster));
        fields.text("direction", Some(self.direction()));
        fields.number("bytes_sent", sent);
        fields.number("bytes_recv", received);
        let lasted = fmt::from_fn(|f| write!(f, "{}ms", self.lasted.as_millis()));
        fields.text("duration", (self.event != Event::Opened).then_some(lasted));
        fields.text("error", self.error);
        fields.text("policy", self.verdict.and_then(Verdict::policy));
        fields.text("reason", self.reason());
        fields.number("suppressed", (self.suppressed > 0).then_some(self.suppressed));
    }

    /// Bytes as this agent sent and received them on the side that it does not speak for.
    fn sent_and_received(&self) -> (Option<u64>, Option<u64>) {
        let (from_client, from_server) = self.bytes;
        let (sent, received) = match self.connection.reporter {
            Reporter::Source => (from_client, from_server),
            Reporter::Destination => (from_server, from_client),
        };
        let ended = |bytes| (self.event != Event::Opened).then_some(bytes);
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
