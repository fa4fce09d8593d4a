//! Tunnels to other pods' agents.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What a pool of tunnels counts. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct TunnelMetrics {
    dials: Counter,
    failures: Family<[(&'static str, &'static str); 1], Counter>,
    open: Gauge,
    opened: Counter,
    streams: Gauge,
}

/// A tunnel that is open for as long as this is there.
#[derive(Debug)]
pub struct OpenTunnel(Gauge);

/// A connection in a tunnel, for as long as this is there.
#[derive(Debug)]
pub struct TunnelStream(Gauge);

impl TunnelMetrics {
    /// Counts an attempt to make a tunnel.
    pub fn dialling(&self) {
        self.dials.inc();
    }

    /// Counts an attempt that failed. `reason` is one of a few words.
    pub fn failed(&self, reason: &'static str) {
        self.failures.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts a tunnel that was made.
    #[must_use]
    pub fn made(&self) -> OpenTunnel {
        self.open.inc();
        OpenTunnel(self.open.clone())
    }

    /// Counts a connection in a tunnel.
    #[must_use]
    pub fn stream(&self) -> TunnelStream {
        self.opened.inc();
        self.streams.inc();
        TunnelStream(self.streams.clone())
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("sotto_tunnel_dials", "Attempts to make a tunnel to another pod's agent", self.dials.clone());
        registry.register("sotto_tunnel_dial_failures", "Those that failed, by reason", self.failures.clone());
        registry.register(
            "sotto_tunnels_open",
            "Tunnels that this agent has made and that are open",
            self.open.clone(),
        );
        registry.register(
            "sotto_tunnel_streams",
            "Connections opened in tunnels that this agent has made",
            self.opened.clone(),
        );
        registry.register("sotto_tunnel_streams_open", "Those that are open", self.streams.clone());
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}
