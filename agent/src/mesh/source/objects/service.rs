//! `Service`: addresses that stand for pods.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use super::meta::{ObjectMeta, StringMap, nullable};

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Namespace and name.
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    /// What was asked for, with the cluster IPs that were given.
    #[serde(deserialize_with = "nullable")]
    pub spec: ServiceSpec,
}

/// The part of a Service's spec that is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP` (also if empty), `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// The primary cluster IP, `None` for a headless service.
    #[serde(rename = "clusterIP", deserialize_with = "nullable")]
    pub cluster_ip: String,
    /// All cluster IPs, the primary one first.
    #[serde(rename = "clusterIPs", deserialize_with = "nullable")]
    pub cluster_ips: Vec<String>,
    /// `IPv4`, `IPv6`: the families of the endpoints.
    #[serde(deserialize_with = "nullable")]
    pub ip_families: Vec<String>,
    /// Ports.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<ServicePort>,
    /// The labels of the pods behind it; empty if somebody else writes the endpoints.
    #[serde(deserialize_with = "nullable")]
    pub selector: StringMap,
    /// Whether pods that are not ready count as if they were.
    #[serde(deserialize_with = "nullable")]
    pub publish_not_ready_addresses: bool,
}

/// One port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Its name; may be empty if it is the only one.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// The port that clients use.
    #[serde(deserialize_with = "nullable")]
    pub port: i32,
    /// `TCP` (also if empty), `UDP` or `SCTP`.
    #[serde(deserialize_with = "nullable")]
    pub protocol: String,
    /// The port of the pods; `port` if there is none.
    pub target_port: Option<IntOrString>,
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntOrString {
    /// A number.
    Int(i64),
    /// The name of a container's port.
    String(String),
}

impl Service {
    /// Whether it is a DNS alias only, without addresses.
    #[must_use]
    pub fn is_external_name(&self) -> bool {
        self.spec.kind == "ExternalName"
    }

    /// The cluster IPs as written, without `None` and doubles.
    #[must_use]
    pub fn cluster_ips(&self) -> Vec<&str> {
        let mut ips: Vec<&str> = Vec::new();
        for ip in std::iter::once(&self.spec.cluster_ip).chain(&self.spec.cluster_ips) {
            if !ip.is_empty() && ip != "None" && !ips.contains(&ip.as_str()) {
                ips.push(ip);
            }
        }
        ips
    }
}

/// Whether a `protocol` field means TCP, as Kubernetes reads a missing one.
#[must_use]
pub fn is_tcp(protocol: &str) -> bool {
    protocol.is_empty() || protocol == "TCP"
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntOrStringVisitor)
    }
}

struct IntOrStringVisitor;

impl Visitor<'_> for IntOrStringVisitor {
    type Value = IntOrString;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port number or the name of a port")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<IntOrString, E> {
        Ok(IntOrString::Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<IntOrString, E> {
        // What does not fit is out of range for a port in any case, and is reported as such.
        Ok(IntOrString::Int(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<IntOrString, E> {
        Ok(IntOrString::String(name.to_owned()))
    }
}
