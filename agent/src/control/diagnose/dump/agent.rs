//! The agent itself, in the dump.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The whole dump. Sections that were not asked for are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dump {
    /// Of sotto.
    pub version: String,
    /// What the agent was started with.
    pub config: AgentConfig,
    /// Whether it carries its pods.
    pub ready: bool,
    /// What it waits for before it is ready.
    pub pending: Vec<String>,
    /// Since when it runs (RFC 3339).
    pub started_at: String,
    /// When this was written (RFC 3339).
    pub written_at: String,
    /// Number of the mesh's state; grows with every change.
    pub state_version: u64,
    /// Whether all that was there at the start has been looked at.
    pub state_loaded: bool,
    /// Since when this state is in force (RFC 3339).
    pub state_since: Option<String>,
    /// How much there is of what.
    pub counts: Counts,
    /// The log.
    pub log: LogStatus,
    /// The kubelet, whose probes are let in.
    pub kubelet: Option<Kubelet>,
    /// See [`super::section::Section::Pods`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<Vec<PodLine>>,
    /// See [`super::section::Section::Workloads`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workloads: Option<Vec<super::mesh::WorkloadLine>>,
    /// See [`super::section::Section::Services`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<super::mesh::ServiceLine>>,
    /// AuthorizationPolicies, as ztunnel lists them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<super::mesh::PolicyLine>>,
    /// See [`super::section::Section::Policies`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_policies: Option<Vec<super::mesh::AuthorizationLine>>,
    /// See [`super::section::Section::Policies`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_authentications: Option<Vec<super::mesh::PeerAuthenticationLine>>,
    /// See [`super::section::Section::Certificates`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Vec<CertificateLine>>,
    /// See [`super::section::Section::Problems`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problems: Option<Vec<String>>,
}

/// What the agent was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentConfig {
    /// Its node's name.
    pub node: String,
    /// The cluster's name in telemetry.
    pub cluster_id: String,
    /// The trust domain of all identities.
    pub trust_domain: String,
    /// Where all pages are.
    pub admin_addr: Option<SocketAddr>,
    /// Where `/metrics` is as well.
    pub metrics_addr: Option<SocketAddr>,
    /// Where `/healthz/ready` is as well.
    pub ready_addr: Option<SocketAddr>,
    /// Data-plane threads.
    pub num_worker_threads: usize,
    /// How long open connections may go on when the agent ends, in seconds.
    pub drain_seconds: u64,
}

/// How much there is of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Pods of this node whose traffic is carried.
    pub pods_carried: usize,
    /// Pods of this node that ought to be carried and are not (yet).
    pub pods_waiting: usize,
    /// All pods that are known.
    pub workloads: usize,
    /// All services.
    pub services: usize,
    /// AuthorizationPolicies and PeerAuthentications.
    pub policies: usize,
    /// Certificates that are valid.
    pub certificates_valid: usize,
    /// Identities without a valid certificate.
    pub certificates_missing: usize,
    /// Problems with objects.
    pub problems: usize,
}

/// The log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogStatus {
    /// What is logged, in the form of `RUST_LOG`.
    pub filter: String,
    /// What was logged when the agent started.
    pub start: String,
    /// Lines that were dropped because nobody read them in time.
    pub dropped_lines: u64,
}

/// The kubelet's cgroup, or why there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubelet {
    /// Its path from the root of the hierarchy.
    pub cgroup: Option<PathBuf>,
    /// Its id.
    pub id: Option<u64>,
    /// What is missing, and what to do about it.
    pub problem: Option<String>,
}

/// One pod of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodLine {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Whom its certificate names.
    pub identity: String,
    /// Where its network namespace was found.
    pub netns: Option<PathBuf>,
    /// Whether its traffic is carried.
    pub enrolled: bool,
    /// Why not (yet).
    pub waiting_for: Option<String>,
}

/// One identity's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateLine {
    /// Whose it is.
    pub identity: String,
    /// `Available`, `Initializing` (none yet) or `Unavailable` (expired, or the last attempt failed), as in ztunnel.
    pub state: String,
    /// The certificate; what it was signed with is not listed.
    pub cert_chain: Vec<CertificateFacts>,
    /// How often it was replaced.
    pub rotations: u64,
    /// What the last attempt ended with, if that was no certificate.
    pub last_error: Option<String>,
}

/// The facts of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateFacts {
    /// In hexadecimal digits.
    pub serial_number: String,
    /// Since when it is valid (RFC 3339).
    pub valid_from: String,
    /// Until when (RFC 3339).
    pub expiration_time: String,
}
