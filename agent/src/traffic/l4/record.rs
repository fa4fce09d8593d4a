//! What is told of one connection: its metrics, and one line of access log when it ends.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::Context;
use super::live::Place;
use super::pod::PodShard;
use super::relay::{RelayError, Traffic};
use crate::model::identity::Identity;
use crate::model::policy::evaluate::Verdict;
use crate::model::service::Service;
use crate::model::workload::Workload;
use crate::runtime::rate::RateLimit;
use crate::telemetry::labels::{ConnectionLabels, Parties, Reporter, ResponseFlags, SecurityPolicy};
use crate::telemetry::log::ACCESS;
use crate::telemetry::metrics::{ConnectionMetrics, PolicyMetrics};

/// Lines about connections that policy keeps out, of all threads: a hundred at once, then ten per second. All are counted.
static DENIED: RateLimit = RateLimit::new(100, Duration::from_millis(100));

/// Who talks to whom, as far as it is known when the connection is relayed or fails.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Which side this agent speaks for.
    pub reporter: Reporter,
    /// The client's address.
    pub source: SocketAddr,
    /// Where this agent's own connection leads; a peer's port 15008 for a tunnel.
    pub destination: SocketAddr,
    /// The CONNECT target of a tunnelled connection.
    pub hbone_target: Option<String>,
    /// The client's pod.
    pub source_workload: Option<Arc<Workload>>,
    /// The identity that the client proved.
    pub source_identity: Option<Identity>,
    /// The server's pod.
    pub destination_workload: Option<Arc<Workload>>,
    /// The identity that the server proved.
    pub destination_identity: Option<Identity>,
    /// The service that the client asked for.
    pub service: Option<Arc<Service>>,
    /// Whether both sides were authenticated.
    pub security: SecurityPolicy,
    /// What policy said, where this agent asked.
    pub verdict: Option<Verdict>,
    /// How its bytes travel.
    pub protocol: Protocol,
}

/// How a connection's bytes travel on the side that this agent does not share with the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// As they are: from or to somebody outside of the mesh.
    Plain,
    /// From pod to pod within this node.
    SameNode,
    /// HTTP/2 CONNECT in mutual TLS.
    Hbone,
}

impl Protocol {
    /// Its name in dumps.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::SameNode => "same-node",
            Self::Hbone => "hbone",
        }
    }
}

/// The record of one connection from now to its end.
#[derive(Debug)]
pub struct Record {
    /// In the table of live connections, once bytes are relayed.
    place: Option<Place>,
    connection: Rc<Connection>,
    labels: ConnectionLabels,
    metrics: ConnectionMetrics,
    policy: PolicyMetrics,
    cluster: Arc<str>,
    begun: Instant,
}

impl Connection {
    /// A connection of which only the addresses are known.
    #[must_use]
    pub fn between(reporter: Reporter, source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            reporter,
            source,
            destination,
            hbone_target: None,
            source_workload: None,
            source_identity: None,
            destination_workload: None,
            destination_identity: None,
            service: None,
            security: SecurityPolicy::Unknown,
            verdict: None,
            protocol: Protocol::Plain,
        }
    }

    /// The same connection as the server's side tells of it, where policy was asked.
    #[must_use]
    pub fn arrived(&self, verdict: Verdict) -> Self {
        Self { reporter: Reporter::Destination, verdict: Some(verdict), ..self.clone() }
    }

    /// Counts and logs a connection that failed before a byte could be relayed.
    pub fn failed(self, context: &Context, begun: Instant, flags: ResponseFlags, error: &dyn std::fmt::Display) {
        let record = Record::new(self, context, begun);
        record.metrics.failed.get_or_create(&record.labels.with_flags(flags)).inc();
        let suppressed = match flags {
            // Whoever is kept out may try again as fast as it can.
            ResponseFlags::Deny => match DENIED.allow(Instant::now()) {
                Some(suppressed) => suppressed,
                None => return,
            },
            ResponseFlags::None
            | ResponseFlags::Connect
            | ResponseFlags::TlsFailure
            | ResponseFlags::H2HandshakeFailure
            | ResponseFlags::IdentityError => 0,
        };
        record.log_failure(&Traffic::default(), error, suppressed);
    }

    /// Counts and logs a connection that policy did not let in.
    pub fn denied(mut self, context: &Context, begun: Instant, verdict: Verdict) {
        context.metrics.policy.denied(&verdict);
        self.verdict = Some(verdict.clone());
        self.failed(context, begun, ResponseFlags::Deny, &verdict);
    }

    /// Counts a failure that has been logged otherwise.
    pub fn count_failure(self, context: &Context, begun: Instant, flags: ResponseFlags) {
        let record = Record::new(self, context, begun);
        record.metrics.failed.get_or_create(&record.labels.with_flags(flags)).inc();
    }

    /// Counts a connection whose bytes are relayed from now on, and shows it with its `traffic` until it ends.
    #[must_use]
    pub fn opened(self, shard: &PodShard, begun: Instant, traffic: &Rc<Traffic>) -> Record {
        let mut record = Record::new(self, &shard.context, begun);
        record.place = Some(shard.live.enter(Rc::clone(&record.connection), Rc::clone(traffic), begun));
        record.metrics.opened.get_or_create(&record.labels).inc();
        record
    }

    fn labels(&self, cluster: &Arc<str>) -> ConnectionLabels {
        let parties = Parties {
            reporter: self.reporter,
            source: self.source_workload.as_deref(),
            source_identity: self.source_identity.as_ref(),
            destination: self.destination_workload.as_deref(),
            destination_identity: self.destination_identity.as_ref(),
            service: self.service.as_deref(),
            cluster,
            security: self.security,
        };
        ConnectionLabels::new(&parties, ResponseFlags::None)
    }
}

/// One access-log line; the fields are ztunnel's, in its order. Missing ones are left out.
macro_rules! access_line {
    ($level:ident, $record:expr, $traffic:expr, $error:expr, $suppressed:expr, $message:literal) => {{
        let c = &$record.connection;
        let (sent, received) = $record.bytes($traffic);
        tracing::event!(
            target: ACCESS,
            tracing::Level::$level,
            src.addr = %c.source,
            src.workload = c.source_workload.as_deref().map(|w| &*w.pod.name),
            src.namespace = c.source_workload.as_deref().map(|w| &*w.pod.namespace),
            src.identity = c.source_identity.as_ref().map(ToString::to_string),
            src.cluster = c.source_workload.as_deref().map(|_| &*$record.cluster),
            dst.addr = %c.destination,
            dst.hbone_addr = c.hbone_target.as_deref(),
            dst.service = c.service.as_deref().map(Service::hostname),
            dst.workload = c.destination_workload.as_deref().map(|w| &*w.pod.name),
            dst.namespace = c.destination_workload.as_deref().map(|w| &*w.pod.namespace),
            dst.identity = c.destination_identity.as_ref().map(ToString::to_string),
            dst.cluster = c.destination_workload.as_deref().map(|_| &*$record.cluster),
            direction = $record.direction(),
            bytes_sent = sent,
            bytes_recv = received,
            policy = c.verdict.as_ref().and_then(Verdict::policy).map(ToString::to_string),
            reason = c.verdict.as_ref().and_then(told_reason),
            duration = format!("{}ms", $record.begun.elapsed().as_millis()),
            error = $error,
            suppressed = $suppressed,
            $message
        );
    }};
}

impl Record {
    fn new(connection: Connection, context: &Context, begun: Instant) -> Self {
        let cluster = Arc::clone(&context.cluster);
        let labels = connection.labels(&cluster);
        let (metrics, policy) = (context.metrics.connections.clone(), context.metrics.policy.clone());
        Self { place: None, connection: Rc::new(connection), labels, metrics, policy, cluster, begun }
    }

    /// Counts and logs the end of the connection.
    pub fn closed(mut self, traffic: &Traffic, result: &Result<(), RelayError>) {
        if let Err(RelayError::Revoked(verdict)) = result
            && self.connection.verdict.is_some()
        {
            self.policy.closed(verdict);
            // Without it, nobody else has the connection.
            self.place = None;
            Rc::make_mut(&mut self.connection).verdict = Some(verdict.clone());
        }
        let labels = &self.labels;
        self.metrics.closed.get_or_create(labels).inc();
        self.metrics.sent.get_or_create(labels).inc_by(traffic.from_server.get());
        self.metrics.received.get_or_create(labels).inc_by(traffic.from_client.get());
        match result {
            Ok(()) => access_line!(INFO, self, traffic, None::<String>, None::<u64>, "connection complete"),
            Err(error) => self.log_failure(traffic, error, 0),
        }
    }

    /// `suppressed`: lines about others that were left out before this one.
    fn log_failure(&self, traffic: &Traffic, error: &dyn std::fmt::Display, suppressed: u64) {
        let suppressed = (suppressed > 0).then_some(suppressed);
        access_line!(ERROR, self, traffic, Some(error.to_string()), suppressed, "connection failed");
    }

    /// Bytes as the log counts them: sent and received by this agent on the side that it does not speak for.
    fn bytes(&self, traffic: &Traffic) -> (u64, u64) {
        let (from_client, from_server) = (traffic.from_client.get(), traffic.from_server.get());
        match self.connection.reporter {
            Reporter::Source => (from_client, from_server),
            Reporter::Destination => (from_server, from_client),
        }
    }

    fn direction(&self) -> &'static str {
        match self.connection.reporter {
            Reporter::Source => "outbound",
            Reporter::Destination => "inbound",
        }
    }
}

/// Why policy decided as it did, where a policy had a part in it: what everybody may do needs no reason.
fn told_reason(verdict: &Verdict) -> Option<&'static str> {
    (!verdict.allowed() || verdict.decided_by.is_some()).then(|| verdict.reason.code())
}
