//! The label set of Istio's TCP metrics, with Istio's names and meanings, so that Kiali's and Grafana's panels work unchanged.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use crate::model::identity::Identity;
use crate::model::service::Service;
use crate::model::workload::Workload;

/// A label's text; what is missing is `unknown`, as in Istio.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Text(Option<Arc<str>>);

/// Which side of a connection reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The client's node.
    Source,
    /// The server's node.
    Destination,
}

/// Istio's `response_flags` of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseFlags {
    /// Nothing special: `-`
    None,
    /// A policy refused it.
    Deny,
    /// The upstream could not be reached.
    Connect,
    /// The TLS handshake failed.
    TlsFailure,
    /// The HTTP/2 handshake failed.
    H2HandshakeFailure,
    /// No certificate for the workload.
    IdentityError,
}

/// Whether the connection was authenticated and encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecurityPolicy {
    /// By mutual TLS on the wire.
    MutualTls,
    /// Not by TLS. Between two pods of one node the agent knows both identities itself and nothing crosses a wire: the
    /// principals are there, but no TLS is claimed.
    Unknown,
}

/// The common labels of all `istio_tcp_*` families.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectionLabels {
    reporter: Reporter,
    source_workload: Text,
    source_canonical_service: Text,
    source_canonical_revision: Text,
    source_workload_namespace: Text,
    source_principal: Text,
    source_app: Text,
    source_version: Text,
    source_cluster: Text,
    destination_service: Text,
    destination_service_namespace: Text,
    destination_service_name: Text,
    destination_workload: Text,
    destination_canonical_service: Text,
    destination_canonical_revision: Text,
    destination_workload_namespace: Text,
    destination_principal: Text,
    destination_app: Text,
    destination_version: Text,
    destination_cluster: Text,
    request_protocol: Text,
    response_flags: ResponseFlags,
    connection_security_policy: SecurityPolicy,
    source_region: Text,
    source_zone: Text,
    destination_region: Text,
    destination_zone: Text,
}

/// What a connection's labels are made of.
#[derive(Clone, Debug)]
pub struct Parties<'a> {
    /// Who reports.
    pub reporter: Reporter,
    /// The client's pod, if it is one.
    pub source: Option<&'a Arc<Workload>>,
    /// The identity that the client proved.
    pub source_identity: Option<&'a Identity>,
    /// The server's pod, if it is one.
    pub destination: Option<&'a Arc<Workload>>,
    /// The identity that the server proved.
    pub destination_identity: Option<&'a Identity>,
    /// The service that the client asked for.
    pub service: Option<&'a Arc<Service>>,
    /// Whether both sides were authenticated.
    pub security: SecurityPolicy,
}

impl ConnectionLabels {
    /// The labels of a connection between these parties, in this cluster.
    #[must_use]
    pub fn new(parties: &Parties<'_>, cluster: &Arc<str>, flags: ResponseFlags) -> Self {
        let source = parties.source;
        let destination = parties.destination;
        let service = parties.service;
        let principal = |identity: Option<&Identity>| Text(identity.map(|i| i.to_string().into()));
        let cluster = |workload: Option<&Arc<Workload>>| Text(workload.map(|_| Arc::clone(cluster)));
        Self {
            reporter: parties.reporter,
            source_workload: text(source.map(|w| &w.owner.name)),
            source_canonical_service: text(source.map(|w| &w.canonical_name)),
            source_canonical_revision: text(source.map(|w| &w.canonical_revision)),
            source_workload_namespace: text(source.map(|w| &w.pod.namespace)),
            source_principal: principal(parties.source_identity),
            source_app: text(source.map(|w| &w.app)),
            source_version: text(source.map(|w| &w.version)),
            source_cluster: cluster(source),
            destination_service: Text(service.map(|s| s.hostname().into())),
            destination_service_namespace: text(service.map(|s| &s.name.namespace)),
            destination_service_name: text(service.map(|s| &s.name.name)),
            destination_workload: text(destination.map(|w| &w.owner.name)),
            destination_canonical_service: text(destination.map(|w| &w.canonical_name)),
            destination_canonical_revision: text(destination.map(|w| &w.canonical_revision)),
            destination_workload_namespace: text(destination.map(|w| &w.pod.namespace)),
            destination_principal: principal(parties.destination_identity),
            destination_app: text(destination.map(|w| &w.app)),
            destination_version: text(destination.map(|w| &w.version)),
            destination_cluster: cluster(destination),
            request_protocol: Text(Some("tcp".into())),
            response_flags: flags,
            connection_security_policy: parties.security,
            source_region: text(source.map(|w| &w.locality.region)),
            source_zone: text(source.map(|w| &w.locality.zone)),
            destination_region: text(destination.map(|w| &w.locality.region)),
            destination_zone: text(destination.map(|w| &w.locality.zone)),
        }
    }

    /// Who reports.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        self.reporter
    }

    /// What stands for these and all others that there is no room for.
    #[must_use]
    pub fn overflow(&self) -> Self {
        let all = || Text(Some("overflow".into()));
        Self {
            source_workload: all(),
            source_canonical_service: all(),
            source_canonical_revision: all(),
            source_workload_namespace: all(),
            source_principal: all(),
            source_app: all(),
            source_version: all(),
            source_cluster: all(),
            destination_service: all(),
            destination_service_namespace: all(),
            destination_service_name: all(),
            destination_workload: all(),
            destination_canonical_service: all(),
            destination_canonical_revision: all(),
            destination_workload_namespace: all(),
            destination_principal: all(),
            destination_app: all(),
            destination_version: all(),
            destination_cluster: all(),
            source_region: all(),
            source_zone: all(),
            destination_region: all(),
            destination_zone: all(),
            request_protocol: self.request_protocol.clone(),
            ..*self
        }
    }
}

fn text(value: Option<&Arc<str>>) -> Text {
    Text(value.filter(|v| !v.is_empty()).map(Arc::clone))
}

impl EncodeLabelValue for Text {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.0.as_deref().unwrap_or("unknown").encode(encoder)
    }
}

impl Reporter {
    /// As Istio's label `reporter` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

impl EncodeLabelValue for Reporter {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.name().encode(encoder)
    }
}

impl ResponseFlags {
    /// For the access log, where something is special.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Deny => Some("denied"),
            Self::Connect => Some("connect"),
            Self::TlsFailure => Some("tls_failure"),
            Self::H2HandshakeFailure => Some("h2_handshake_failure"),
            Self::IdentityError => Some("identity_error"),
        }
    }
}

impl EncodeLabelValue for ResponseFlags {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::None => "-",
            Self::Deny => "DENY",
            Self::Connect => "CONNECT",
            Self::TlsFailure => "TLS_FAILURE",
            Self::H2HandshakeFailure => "H2_HANDSHAKE_FAILURE",
            Self::IdentityError => "IDENTITY_ERROR",
        }
        .encode(encoder)
    }
}

impl EncodeLabelValue for SecurityPolicy {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::Unknown => "unknown",
        }
        .encode(encoder)
    }
}
