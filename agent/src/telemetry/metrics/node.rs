//! What the agent knows of its node: pods, certificates, the mesh state, the redirection.

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

type ByName = Family<[(&'static str, &'static str); 1], Gauge>;

/// Pods of this node, and what their connections hold.
#[derive(Clone, Debug, Default)]
pub struct NodeMetrics {
    enrolled: Gauge,
    pending: Gauge,
    failing: Gauge,
    /// Pods that joined.
    pub started: Counter,
    /// Pods that left.
    pub stopped: Counter,
    /// Descriptors that connections hold.
    pub descriptors: Gauge,
    /// Bytes that wait for applications that do not read.
    pub waiting_bytes: Gauge,
    /// Tasks of the data-plane threads.
    pub tasks: Gauge,
    events: Family<[(&'static str, &'static str); 1], Counter>,
    entries: ByName,
    capacity: ByName,
}

/// How full a map of the redirection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// Its name.
    pub map: &'static str,
    /// Entries that it has.
    pub entries: u64,
    /// Entries that it has room for.
    pub capacity: u64,
}

/// The certificates of this node's identities.
#[derive(Clone, Debug, Default)]
pub struct CertificateMetrics {
    state: ByName,
    expiry: Gauge,
    issued: Counter,
    rotations: Counter,
    failures: Counter,
}

/// The certificates at one moment, and what happened to them so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CertificateFigures {
    /// Identities with a certificate that can be used.
    pub valid: usize,
    /// Identities that wait for their first.
    pub missing: usize,
    /// Identities whose certificate ran out.
    pub expired: usize,
    /// When the first of the valid ones runs out.
    pub first_expiry: Option<SystemTime>,
    /// Certificates received.
    pub issued: u64,
    /// Of these, how many replaced another.
    pub rotations: u64,
    /// Attempts that brought none.
    pub failures: u64,
}

/// The mesh as this agent knows it.
#[derive(Clone, Debug, Default)]
pub struct StateMetrics {
    version: Gauge,
    updated: Gauge,
    loaded: Gauge,
    problems: Gauge,
    objects: ByName,
}

/// The mesh state at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateFigures {
    /// Grows by one with each state.
    pub version: u64,
    /// When it was made.
    pub made_at: Option<SystemTime>,
    /// Whether everything has been looked at once.
    pub loaded: bool,
    /// Objects that could not be used.
    pub problems: usize,
    /// Pods.
    pub workloads: usize,
    /// Services.
    pub services: usize,
    /// Policies of all kinds.
    pub policies: usize,
}

impl NodeMetrics {
    /// Takes over how many pods are carried, wait for something that is on its way, and wait for something that went wrong.
    pub fn pods(&self, enrolled: usize, pending: usize, failing: usize) {
        self.enrolled.set(gauge(enrolled));
        self.pending.set(gauge(pending + failing));
        self.failing.set(gauge(failing));
    }

    /// Takes over what the kernel has counted, by event.
    pub fn events(&self, events: &[(&'static str, u64)]) {
        for &(event, number) in events {
            self.events.get_or_create(&[("event", event)]).inner().store(number, Ordering::Relaxed);
        }
    }

    /// Takes over how full the maps are.
    pub fn maps(&self, maps: &[MapFill]) {
        for &MapFill { map, entries, capacity } in maps {
            self.entries.get_or_create(&[("map", map)]).set(gauge(entries));
            self.capacity.get_or_create(&[("map", map)]).set(gauge(capacity));
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("workload_manager_active_proxy_count", "Pods enrolled on this node", self.enrolled.clone());
        let help = "Pods on this node that are waiting to be enrolled";
        registry.register("workload_manager_pending_proxy_count", help, self.pending.clone());
        registry.register("workload_manager_proxies_started", "Pods that joined the mesh", self.started.clone());
        registry.register("workload_manager_proxies_stopped", "Pods that left the mesh", self.stopped.clone());
        let help = "Pods on this node that cannot be enrolled; the log and /config_dump say why";
        registry.register("sotto_failing_pods", help, self.failing.clone());
        let help = "File descriptors held for pods and their connections";
        registry.register("sotto_descriptors", help, self.descriptors.clone());
        let help = "Bytes held for applications that do not read them";
        registry.register_with_unit("sotto_waiting", help, Unit::Bytes, self.waiting_bytes.clone());
        registry.register("sotto_tasks", "Tasks of the data-plane threads", self.tasks.clone());
        let help = "Connections captured, held and refused by the eBPF programs, by event";
        registry.register("sotto_redirect_events", help, self.events.clone());
        registry.register("sotto_bpf_map_entries", "Entries of an eBPF map", self.entries.clone());
        registry.register("sotto_bpf_map_capacity", "Entries that an eBPF map has room for", self.capacity.clone());
    }
}

impl CertificateMetrics {
    /// Takes over the figures of this moment.
    pub fn set(&self, figures: &CertificateFigures) {
        for (state, number) in [("valid", figures.valid), ("missing", figures.missing), ("expired", figures.expired)] {
            self.state.get_or_create(&[("state", state)]).set(gauge(number));
        }
        self.expiry.set(timestamp(figures.first_expiry));
        store(&self.issued, figures.issued);
        store(&self.rotations, figures.rotations);
        store(&self.failures, figures.failures);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Identities with a pod on this node, by the state of their certificate";
        registry.register("sotto_certificates", help, self.state.clone());
        let help = "When the first of the valid certificates expires, in Unix time; 0 without any";
        registry.register_with_unit(
            "sotto_certificate_first_expiry_timestamp",
            help,
            Unit::Seconds,
            self.expiry.clone(),
        );
        registry.register("sotto_certificates_issued", "Certificates received", self.issued.clone());
        let help = "Certificates received in place of another, at half of its life";
        registry.register("sotto_certificate_rotations", help, self.rotations.clone());
        let help = "Attempts to get a certificate that brought none";
        registry.register("sotto_certificate_failures", help, self.failures.clone());
    }
}

impl StateMetrics {
    /// Takes over the figures of this moment.
    pub fn set(&self, figures: &StateFigures) {
        self.version.set(gauge(figures.version));
        self.updated.set(timestamp(figures.made_at));
        self.loaded.set(figures.loaded.into());
        self.problems.set(gauge(figures.problems));
        let StateFigures { workloads, services, policies, .. } = *figures;
        for (kind, number) in [("workload", workloads), ("service", services), ("policy", policies)] {
            self.objects.get_or_create(&[("kind", kind)]).set(gauge(number));
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "sotto_state_version",
            "The mesh state's number; it grows with each change",
            self.version.clone(),
        );
        let help = "When the mesh state last changed, in Unix time";
        registry.register_with_unit("sotto_state_updated_timestamp", help, Unit::Seconds, self.updated.clone());
        registry.register("sotto_state_loaded", "1 once the mesh state is complete", self.loaded.clone());
        let help = "Objects or files of the mesh state that could not be used";
        registry.register("sotto_state_problems", help, self.problems.clone());
        registry.register("sotto_state_objects", "Objects of the mesh state, by kind", self.objects.clone());
    }
}

fn store(counter: &Counter, number: u64) {
    counter.inner().store(number, Ordering::Relaxed);
}

fn timestamp(at: Option<SystemTime>) -> i64 {
    let since = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    gauge(since.as_secs())
}

fn gauge(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
