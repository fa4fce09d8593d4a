//! Who talks to whom, and what is told when it comes to nothing.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::line::Line;
use super::open::Record;
use crate::model::authority::Authority;
use crate::model::identity::Identity;
use crate::model::policy::evaluate::Verdict;
use crate::model::service::Service;
use crate::model::workload::Workload;
use crate::runtime::rate::RateLimit;
use crate::telemetry::labels::{Parties, Reporter, ResponseFlags, SecurityPolicy};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::series::Counted;
use crate::traffic::l4::context::Context;

/// Lines about connections that policy keeps out, of all threads: a hundred at once, then ten per second. All are counted.
static DENIED: RateLimit = RateLimit::new(100, Duration::from_millis(100));

/// Lines about connections that fail for other reasons: an application whose server is away may try as fast as it can.
static FAILED: RateLimit = RateLimit::new(1_000, Duration::from_millis(10));

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
    pub hbone_target: Option<Authority>,
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
    /// From pod to pod within this node, through this agent.
    SameNode,
    /// From pod to pod within this node, by the kernel alone.
    Direct,
    /// HTTP/2 CONNECT in mutual TLS.
    Hbone,
    /// `sotto/1` in mutual TLS.
    Sotto,
}

impl Protocol {
    /// Its name in dumps.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::SameNode => "same-node",
            Self::Direct => "direct",
            Self::Hbone => "hbone",
            Self::Sotto => "sotto/1",
        }
    }
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
    pub fn failed(self, context: &Context, begun: Instant, flags: ResponseFlags, error: &dyn Display) {
        self.fail(&context.metrics, begun, flags, error);
    }

    /// Counts and logs a connection that policy did not let in.
    pub fn denied(mut self, context: &Context, begun: Instant, verdict: Verdict) {
        context.metrics.policy.denied(&verdict);
        self.verdict = Some(verdict.clone());
        self.fail(&context.metrics, begun, ResponseFlags::Deny, &verdict);
    }

    /// Counts a failure that has been logged otherwise.
    pub fn count_failure(self, context: &Context, flags: ResponseFlags) {
        self.counted(&context.metrics, flags).failed();
    }

    /// Counts a connection whose bytes are moved from now on: by a relay, or by the kernel, whose numbers are put into
    /// [`Record::traffic`].
    #[must_use]
    pub fn opened(self, context: &Context, begun: Instant) -> Record {
        Record::new(self, &context.metrics, begun, Default::default())
    }

    pub(super) fn fail(&self, metrics: &Metrics, begun: Instant, flags: ResponseFlags, error: &dyn Display) {
        self.counted(metrics, flags).failed();
        let limit = if flags == ResponseFlags::Deny { &DENIED } else { &FAILED };
        let Some(suppressed) = limit.allow(Instant::now()) else { return };
        let line = Line { flags, error: Some(error), suppressed, ..Line::of(self, metrics, begun.elapsed()) };
        line.write();
    }

    /// Where it is counted.
    pub(super) fn counted(&self, metrics: &Metrics, flags: ResponseFlags) -> Counted {
        let parties = Parties {
            reporter: self.reporter,
            source: self.source_workload.as_ref(),
            source_identity: self.source_identity.as_ref(),
            destination: self.destination_workload.as_ref(),
            destination_identity: self.destination_identity.as_ref(),
            service: self.service.as_ref(),
            security: self.security,
        };
        metrics.connections.of(&parties, flags)
    }
}
