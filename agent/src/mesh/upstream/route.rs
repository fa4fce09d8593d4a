//! What a destination address means and how to get to it: pure look-ups in the mesh's state.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::service::{Endpoint, Service};
use crate::model::view::{Destination, MeshView};
use crate::model::workload::Workload;

/// The agent's own ports in each pod: outbound, plaintext and HBONE. Nothing may be asked for there through the mesh.
pub const RESERVED_PORTS: [u16; 3] = [15001, 15006, HBONE_PORT];

/// Where each enrolled pod is reached by HBONE.
pub const HBONE_PORT: u16 = 15008;

/// Where a connection may go.
#[derive(Clone, Debug)]
pub struct Route {
    /// The service that the client asked for, for telemetry and the `forwarded` header.
    pub service: Option<Arc<Service>>,
    /// The addresses that can serve it; one of them is to be used.
    pub candidates: Vec<SocketAddr>,
}

/// Why there is nowhere to go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// The service has no such port.
    #[error("service {service} has no port {port}; the client asked for another than its spec.ports have")]
    UnknownPort {
        /// Namespace and name of the service.
        service: String,
        /// The port that the client asked for.
        port: u16,
    },
    /// The service's port has no endpoint that may get new connections.
    #[error("service {service} has no healthy endpoint on port {port}; see the readiness of its pods")]
    NoHealthyEndpoint {
        /// Namespace and name of the service.
        service: String,
        /// The port that the client asked for.
        port: u16,
    },
    /// The port belongs to the agent.
    #[error("port {0} of an enrolled pod belongs to the mesh (15001, 15006, 15008)")]
    ReservedPort(u16),
}

/// How to get to one address.
#[derive(Clone, Debug)]
pub enum Hop {
    /// To an enrolled pod of this node: relayed in process.
    SameNode(Arc<Workload>),
    /// To an enrolled pod of another node: through its tunnel.
    Tunnel(Arc<Workload>),
    /// As it is, in clear text: outside the mesh.
    Plain(Option<Arc<Workload>>),
}

/// Finds the addresses behind what the client asked for.
///
/// # Errors
/// [`NoRoute`] when the service has no such port or no healthy endpoint for it.
pub fn route(view: &MeshView, original: SocketAddr) -> Result<Route, NoRoute> {
    match view.destination(original) {
        Destination::External => Ok(Route { service: None, candidates: vec![original] }),
        Destination::Workload(_, service) => Ok(Route { service, candidates: vec![original] }),
        Destination::UnknownPort(service) => {
            Err(NoRoute::UnknownPort { service: service.name.to_string(), port: original.port() })
        }
        Destination::Service(service, port) => {
            // As without the mesh, an IPv4 address of a service leads to IPv4 endpoints, and an IPv6 one to IPv6.
            let fits = |e: &&Endpoint| e.ready && e.address.is_ipv4() == original.is_ipv4();
            let candidates: Vec<_> = port.endpoints.iter().filter(fits).map(|e| e.address).collect();
            if candidates.is_empty() {
                return Err(NoRoute::NoHealthyEndpoint { service: service.name.to_string(), port: original.port() });
            }
            Ok(Route { service: Some(service), candidates })
        }
    }
}

/// Finds the way from `node` to one address.
///
/// # Errors
/// [`NoRoute::ReservedPort`] when the port is the agent's own in an enrolled pod.
pub fn hop(view: &MeshView, node: &str, address: SocketAddr) -> Result<Hop, NoRoute> {
    let Some(workload) = view.workload_at(address.ip()) else {
        return Ok(Hop::Plain(None));
    };
    if !workload.is_enrolled() {
        return Ok(Hop::Plain(Some(Arc::clone(workload))));
    }
    if RESERVED_PORTS.contains(&address.port()) {
        return Err(NoRoute::ReservedPort(address.port()));
    }
    let workload = Arc::clone(workload);
    Ok(if &*workload.node == node { Hop::SameNode(workload) } else { Hop::Tunnel(workload) })
}
