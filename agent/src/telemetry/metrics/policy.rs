//! Connections that were kept out, refused or broken, by reason.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::model::policy::evaluate::Verdict;
use crate::telemetry::labels::Reporter;

/// `sotto_policy_refusals_total`: connections that policies kept out (`denied`) or ended (`closed`), by the policy that decided.
#[derive(Clone, Debug, Default)]
pub struct PolicyMetrics(Family<[(&'static str, String); 3], Counter>);

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

/// `sotto_connections_broken_total`: connections that were open and did not end by both sides closing them.
#[derive(Clone, Debug, Default)]
pub struct BrokenMetrics(Family<[(&'static str, &'static str); 2], Counter>);

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

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Connections that policies kept out or ended, by the policy that decided";
        registry.register("sotto_policy_refusals", help, self.0.clone());
    }
}

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

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Connections, handshakes and requests refused to stay within a limit, by limit";
        registry.register("sotto_refused", help, self.0.clone());
    }
}

impl BrokenMetrics {
    /// Counts one. `reason` is one of a few words.
    pub fn count(&self, reporter: Reporter, reason: &'static str) {
        self.0.get_or_create(&[("reporter", reporter.name()), ("reason", reason)]).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Open connections that did not end by both sides closing them, by reason";
        registry.register("sotto_connections_broken", help, self.0.clone());
    }
}
