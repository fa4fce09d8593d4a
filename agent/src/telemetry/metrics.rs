//! The registry and the families that the data path counts in.

use std::fmt;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::ConnectionLabels;
use crate::model::policy::evaluate::Verdict;

/// Everything that the agent counts. Families are cheap to clone and shared by all threads.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The families of connections.
    pub connections: ConnectionMetrics,
    /// Pods of this node whose traffic goes through the agent.
    pub enrolled_pods: Gauge,
    /// Pods of this node that ought to be enrolled and are not (yet).
    pub pending_pods: Gauge,
    /// Problems in the mesh state's sources.
    pub state_problems: Gauge,
    /// What the eBPF programs counted.
    pub redirect: RedirectMetrics,
    /// What policies kept out.
    pub policy: PolicyMetrics,
    /// What was refused to stay within a limit.
    pub refused: RefusedMetrics,
    /// Descriptors that connections hold.
    pub descriptors: Gauge,
    /// Bytes that wait for applications that do not read.
    pub waiting_bytes: Gauge,
    /// Tasks of the data-plane threads.
    pub tasks: Gauge,
}

/// `sotto_policy_refusals_total`: connections that policies kept out (`denied`) or ended (`closed`), by the policy that decided.
#[derive(Clone, Debug, Default)]
pub struct PolicyMetrics(Family<[(&'static str, String); 3], Counter>);

impl PolicyMetrics {
    /// Counts a connection that was not let in.
    pub fn denied(&self, verdict: &Verdict) {
        self.count("denied", verdict);
    }

    /// Counts a connection that was let in and is closed since policies changed.
    pub fn closed(&self, verdict: &Verdict) {
        self.count("closed", verdict);
    }

    fn count(&self, action: &str, verdict: &Verdict) {
        let policy = verdict.policy().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        let labels = [("action", action.to_owned()), ("policy", policy), ("reason", verdict.reason.code().to_owned())];
        self.0.get_or_create(&labels).inc();
    }
}

/// Which limit had something refused or broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// A connection: the pod holds its share of the agent's descriptors.
    Descriptors,
    /// A connection: the pod holds its share of the memory for what waits to be read.
    Memory,
    /// A TLS handshake: one address has too many under way.
    HandshakesPerPeer,
    /// A TLS handshake: the pod has too many under way.
    Handshakes,
    /// A tunnel: one address has too many.
    TunnelsPerPeer,
    /// A request in a tunnel that is not HBONE.
    NotHbone,
}

/// `sotto_refused_total`
#[derive(Clone, Debug, Default)]
pub struct RefusedMetrics(Family<[(&'static str, &'static str); 1], Counter>);

impl RefusedMetrics {
    /// Counts one.
    pub fn count(&self, what: Refused) {
        let limit = match what {
            Refused::Descriptors => "descriptors",
            Refused::Memory => "memory",
            Refused::HandshakesPerPeer => "handshakes_per_peer",
            Refused::Handshakes => "handshakes",
            Refused::TunnelsPerPeer => "tunnels_per_peer",
            Refused::NotHbone => "not_hbone",
        };
        self.0.get_or_create(&[("limit", limit)]).inc();
    }
}

/// `sotto_redirect_events_total`: counted in the kernel, copied here.
#[derive(Clone, Debug, Default)]
pub struct RedirectMetrics(Family<[(&'static str, &'static str); 1], Counter>);

impl RedirectMetrics {
    /// Takes over the kernel's numbers by event.
    pub fn set(&self, events: &[(&'static str, u64)]) {
        for &(event, number) in events {
            self.0.get_or_create(&[("event", event)]).inner().store(number, Ordering::Relaxed);
        }
    }
}

/// Istio's TCP families. "sent" is the response's direction and "received" the request's, from either reporter.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    /// `istio_tcp_connections_opened_total`
    pub opened: Family<ConnectionLabels, Counter>,
    /// `istio_tcp_connections_closed_total`
    pub closed: Family<ConnectionLabels, Counter>,
    /// `istio_tcp_connections_failed_total`: ended before a byte could be relayed
    pub failed: Family<ConnectionLabels, Counter>,
    /// `istio_tcp_sent_bytes_total`
    pub sent: Family<ConnectionLabels, Counter>,
    /// `istio_tcp_received_bytes_total`
    pub received: Family<ConnectionLabels, Counter>,
}

impl Metrics {
    /// All families, registered under their names.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let connections = ConnectionMetrics::default();
        register_connections(registry.sub_registry_with_prefix("istio"), &connections);
        let enrolled_pods = Gauge::default();
        let pending_pods = Gauge::default();
        let state_problems = Gauge::default();
        registry.register("workload_manager_active_proxy_count", "Pods enrolled on this node", enrolled_pods.clone());
        registry.register(
            "workload_manager_pending_proxy_count",
            "Pods on this node that are waiting to be enrolled",
            pending_pods.clone(),
        );
        registry.register(
            "sotto_state_problems",
            "Objects or files of the mesh state that could not be used",
            state_problems.clone(),
        );
        let redirect = RedirectMetrics::default();
        registry.register(
            "sotto_redirect_events",
            "Connections captured, held and refused by the eBPF programs, by event",
            redirect.0.clone(),
        );
        let policy = PolicyMetrics::default();
        registry.register(
            "sotto_policy_refusals",
            "Connections that policies kept out or ended, by the policy that decided",
            policy.0.clone(),
        );
        let refused = RefusedMetrics::default();
        registry.register(
            "sotto_refused",
            "Connections, handshakes and requests refused to stay within a limit, by limit",
            refused.0.clone(),
        );
        let (descriptors, waiting_bytes, tasks) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register(
            "sotto_descriptors",
            "File descriptors held for pods and their connections",
            descriptors.clone(),
        );
        registry.register(
            "sotto_waiting_bytes",
            "Bytes held for applications that do not read them",
            waiting_bytes.clone(),
        );
        registry.register("sotto_tasks", "Tasks of the data-plane threads", tasks.clone());
        Self {
            registry,
            connections,
            enrolled_pods,
            pending_pods,
            state_problems,
            redirect,
            policy,
            refused,
            descriptors,
            waiting_bytes,
            tasks,
        }
    }

    /// Everything in the OpenMetrics text format.
    ///
    /// # Errors
    /// When a value cannot be written as text.
    pub fn page(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn register_connections(istio: &mut Registry, connections: &ConnectionMetrics) {
    istio.register("tcp_connections_opened", "TCP connections opened", connections.opened.clone());
    istio.register("tcp_connections_closed", "TCP connections closed", connections.closed.clone());
    istio.register("tcp_connections_failed", "TCP connections that failed", connections.failed.clone());
    // Istio names these without OpenMetrics' unit order ("sent_bytes", not "bytes_sent").
    istio.register_with_unit("tcp_sent", "Bytes of responses", Unit::Bytes, connections.sent.clone());
    istio.register_with_unit("tcp_received", "Bytes of requests", Unit::Bytes, connections.received.clone());
    // Dashboards of this field look for the node proxy under Istio's component name.
    let build = Family::<[(&str, &str); 2], Gauge>::default();
    build.get_or_create(&[("component", "ztunnel"), ("tag", env!("CARGO_PKG_VERSION"))]).set(1);
    istio.register("build", "The agent's component and version", build);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::labels::{Parties, Reporter, ResponseFlags, SecurityPolicy};

    #[test]
    fn families_have_istios_names_and_unknown_for_what_is_missing() {
        let metrics = Metrics::new();
        let cluster = Arc::from("Kubernetes");
        let parties = Parties {
            reporter: Reporter::Source,
            source: None,
            source_identity: None,
            destination: None,
            destination_identity: None,
            service: None,
            cluster: &cluster,
            security: SecurityPolicy::Unknown,
        };
        let labels = ConnectionLabels::new(&parties, ResponseFlags::Connect);
        metrics.connections.sent.get_or_create(&labels).inc_by(7);
        metrics.connections.failed.get_or_create(&labels).inc();
        let page = metrics.page().unwrap();
        assert!(page.contains("istio_tcp_sent_bytes_total{reporter=\"source\",source_workload=\"unknown\""), "{page}");
        assert!(page.contains("response_flags=\"CONNECT\",connection_security_policy=\"unknown\""), "{page}");
        assert!(page.contains("istio_tcp_connections_failed_total{"), "{page}");
        assert!(page.contains("istio_build{component=\"ztunnel\",tag=\""), "{page}");
        assert!(page.ends_with("# EOF\n"), "{page}");
    }
}
