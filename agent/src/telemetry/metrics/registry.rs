//! All families of a node agent, under their names.

use std::fmt;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::exposition::{self, Format};
use super::node::{CertificateMetrics, NodeMetrics, StateMetrics};
use super::policy::{BrokenMetrics, PolicyMetrics, RefusedMetrics};
use super::process::ProcessMetrics;
use super::threads::ThreadMetrics;
use super::tunnels::TunnelMetrics;
use crate::runtime::rate;
use crate::telemetry::counter::ReadCounter;
use crate::telemetry::log;
use crate::telemetry::series::{ConnectionSeries, Limits};

/// Everything that the agent counts, shared by all threads.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Istio's families of connections.
    pub connections: ConnectionSeries,
    /// Open connections that broke.
    pub broken: BrokenMetrics,
    /// What policies kept out.
    pub policy: PolicyMetrics,
    /// What was refused to stay within a limit.
    pub refused: RefusedMetrics,
    /// Tunnels to other agents.
    pub tunnels: TunnelMetrics,
    /// Pods, and what the redirection says.
    pub node: NodeMetrics,
    /// Certificates.
    pub certificates: CertificateMetrics,
    /// The mesh state.
    pub state: StateMetrics,
    /// The data-plane threads.
    pub threads: ThreadMetrics,
}

impl Metrics {
    /// All families, of an agent in `cluster`.
    #[must_use]
    pub fn new(cluster: &str, limits: Limits) -> Self {
        let metrics = Self {
            registry: Registry::default(),
            connections: ConnectionSeries::new(cluster, limits),
            broken: BrokenMetrics::default(),
            policy: PolicyMetrics::default(),
            refused: RefusedMetrics::default(),
            tunnels: TunnelMetrics::default(),
            node: NodeMetrics::default(),
            certificates: CertificateMetrics::default(),
            state: StateMetrics::default(),
            threads: ThreadMetrics::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        let istio = registry.sub_registry_with_prefix("istio");
        istio.register_collector(self.connections.collector());
        // Dashboards of this field look for the node proxy under Istio's component name.
        let build = Family::<[(&str, &str); 2], Gauge>::default();
        build.get_or_create(&[("component", "ztunnel"), ("tag", env!("CARGO_PKG_VERSION"))]).set(1);
        istio.register("build", "The agent's component and version", build);
        self.connections.register(registry);
        self.broken.register(registry);
        self.policy.register(registry);
        self.refused.register(registry);
        self.tunnels.register(registry);
        self.node.register(registry);
        self.certificates.register(registry);
        self.state.register(registry);
        self.threads.register(registry);
        registry.sub_registry_with_prefix("process").register_collector(Box::new(ProcessMetrics));
        self.count("sotto_log_suppressed", "Log lines left out since there were many like them", rate::suppressed);
        let help = "Log lines dropped since whoever reads standard output does not keep up";
        self.count("sotto_log_lines_dropped", help, log::dropped_lines);
        self
    }

    /// Shows a number that only grows and is counted elsewhere. The name is without `_total`.
    pub fn count(&mut self, name: &'static str, help: &'static str, read: fn() -> u64) {
        self.registry.register_collector(Box::new(ReadCounter { name, help, read }));
    }

    /// Everything as text.
    ///
    /// # Errors
    /// When a value cannot be written as text.
    pub fn page(&self, format: Format) -> Result<String, fmt::Error> {
        let mut page = String::new();
        encode(&mut page, &self.registry)?;
        match format {
            Format::Text => exposition::text(&page),
            Format::OpenMetrics => Ok(page),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::labels::{Parties, Reporter, ResponseFlags, SecurityPolicy};

    #[test]
    fn families_have_istios_names_and_unknown_for_what_is_missing() {
        let metrics = Metrics::new("Kubernetes", Limits::default());
        let parties = Parties {
            reporter: Reporter::Source,
            source: None,
            source_identity: None,
            destination: None,
            destination_identity: None,
            service: None,
            security: SecurityPolicy::Unknown,
        };
        metrics.connections.of(&parties, ResponseFlags::Connect).failed();
        let counted = metrics.connections.of(&parties, ResponseFlags::None);
        counted.opened();
        counted.bytes(7, 9);
        let page = metrics.page(Format::OpenMetrics).unwrap();
        assert!(page.contains("istio_tcp_sent_bytes_total{reporter=\"source\",source_workload=\"unknown\""), "{page}");
        assert!(page.contains("response_flags=\"CONNECT\",connection_security_policy=\"unknown\""), "{page}");
        assert!(page.contains("istio_tcp_connections_failed_total{"), "{page}");
        assert!(page.contains("istio_tcp_sockets_open{reporter=\"source\"} 1\n"), "{page}");
        assert!(page.contains("istio_build{component=\"ztunnel\",tag=\""), "{page}");
        assert!(page.contains("# UNIT istio_tcp_sent_bytes bytes\n"), "{page}");
        assert!(page.ends_with("# EOF\n"), "{page}");
        let text = metrics.page(Format::Text).unwrap();
        assert!(text.contains("# TYPE istio_tcp_sent_bytes_total counter\n"), "{text}");
        assert!(text.contains("\nsotto_log_lines_dropped_total 0\n"), "{text}");
        for name in ["process_open_fds", "process_cpu_seconds_total", "process_start_time_seconds"] {
            assert!(text.contains(&format!("\n{name} ")), "{name} in {text}");
        }
    }
}
