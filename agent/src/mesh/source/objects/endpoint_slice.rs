//! `EndpointSlice`: addresses behind a Service, in the shapes of `discovery.k8s.io/v1` and `v1beta1`.

use serde::Deserialize;

use super::meta::{ObjectMeta, StringMap, nullable};

/// The label that names the Service which a slice belongs to.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The key of the node's name in `topology`, where `v1beta1` keeps it.
const TOPOLOGY_HOSTNAME: &str = "kubernetes.io/hostname";

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// Namespace, name and [`SERVICE_NAME_LABEL`].
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    /// `IPv4`, `IPv6` or `FQDN`.
    #[serde(deserialize_with = "nullable")]
    pub address_type: String,
    /// The addresses.
    #[serde(deserialize_with = "nullable")]
    pub endpoints: Vec<Endpoint>,
    /// The ports, which are the same for all addresses of the slice.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<EndpointPort>,
}

/// One endpoint: most often one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Addresses of one and the same endpoint.
    #[serde(deserialize_with = "nullable")]
    pub addresses: Vec<String>,
    /// Whether it takes connections.
    #[serde(deserialize_with = "nullable")]
    pub conditions: EndpointConditions,
    /// The node it runs on (`v1`).
    #[serde(deserialize_with = "nullable")]
    pub node_name: String,
    /// Where it runs (`v1beta1`).
    #[serde(deserialize_with = "nullable")]
    pub topology: StringMap,
}

/// Whether an endpoint takes connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// Whether it may get new connections; unknown counts as yes.
    pub ready: Option<bool>,
    /// Whether it is on its way out; unknown counts as no.
    pub terminating: Option<bool>,
}

/// One port of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    /// The name of the Service's port that it answers to.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// The port number of the endpoints; none leaves it open.
    pub port: Option<i32>,
    /// `TCP` (also if empty), `UDP` or `SCTP`.
    #[serde(deserialize_with = "nullable")]
    pub protocol: String,
}

impl EndpointSlice {
    /// The name of the Service that the slice belongs to, if it belongs to one.
    #[must_use]
    pub fn service_name(&self) -> Option<&str> {
        self.metadata.label(SERVICE_NAME_LABEL)
    }
}

impl Endpoint {
    /// The node that the endpoint runs on, wherever the slice's version keeps it; empty if it does not say.
    #[must_use]
    pub fn node(&self) -> &str {
        if self.node_name.is_empty() {
            return self.topology.get(TOPOLOGY_HOSTNAME).map_or("", String::as_str);
        }
        &self.node_name
    }
}

impl EndpointConditions {
    /// Whether the endpoint may get new connections.
    #[must_use]
    pub fn takes_connections(&self) -> bool {
        self.ready.unwrap_or(true) && !self.terminating.unwrap_or(false)
    }
}
