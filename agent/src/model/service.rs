//! A Kubernetes Service: the addresses clients use, and the endpoints behind them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::workload::ObjectName;

/// One Service with its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: ObjectName,
    /// Cluster IPs, none for a headless service.
    pub vips: Vec<IpAddr>,
    /// The TCP ports that clients may use.
    pub ports: Vec<Arc<ServicePort>>,
}

/// One TCP port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The port that clients use on the service's addresses.
    pub port: u16,
    /// Its name, empty if the service has only one.
    pub name: Arc<str>,
    /// Where it leads: resolved addresses with the target port of each.
    pub endpoints: Vec<Endpoint>,
}

/// One address behind a service's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Pod (or external) address and target port.
    pub address: SocketAddr,
    /// Whether it may get new connections (`conditions.ready`; unknown counts as ready, as Kubernetes says).
    pub ready: bool,
}

impl Service {
    /// The DNS name of the service, as HBONE and Istio's telemetry spell it.
    #[must_use]
    pub fn hostname(&self) -> String {
        self.host().to_string()
    }

    /// The same, to be written somewhere.
    #[must_use]
    pub fn host(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(|f| write!(f, "{}.{}.svc.cluster.local", self.name.name, self.name.namespace))
    }

    /// The port entry that clients reach as `port`.
    #[must_use]
    pub fn port(&self, port: u16) -> Option<&Arc<ServicePort>> {
        self.ports.iter().find(|p| p.port == port)
    }
}
