//! Which services the kernel picks endpoints for: those of which a connection may end up on this node.

use std::net::SocketAddr;

use crate::drivers::redirect::Endpoints;
use crate::model::service::{Endpoint, Service, ServicePort};
use crate::model::view::MeshView;

/// More endpoints than this and the agent picks.
const MOST_ENDPOINTS: usize = 4096;

/// Services' addresses with all their endpoints, those of other nodes included, so that each gets its share.
pub(super) fn endpoints(view: &MeshView, node: &str) -> Endpoints {
    let is_here = |endpoint: &Endpoint| {
        view.workload_at(endpoint.address.ip())
            .is_some_and(|workload| workload.is_enrolled() && *workload.node == *node)
    };
    let ports = view.services().flat_map(|service| service.ports.iter().map(move |port| (service, port)));
    let here = ports.filter(|(_, port)| port.endpoints.iter().any(|endpoint| endpoint.ready && is_here(endpoint)));
    here.flat_map(|(service, port)| addresses(view, service, port)).collect()
}

/// As without the mesh, an IPv4 address of a service leads to IPv4 endpoints, and an IPv6 one to IPv6.
fn addresses(view: &MeshView, service: &Service, port: &ServicePort) -> Vec<(SocketAddr, Vec<SocketAddr>)> {
    let own = service.vips.iter().filter(|vip| view.service_at(**vip).is_some_and(|owner| owner.name == service.name));
    let with_endpoints = own.map(|vip| {
        let fits = |e: &&Endpoint| e.ready && e.address.is_ipv4() == vip.is_ipv4();
        let endpoints: Vec<_> = port.endpoints.iter().filter(fits).map(|endpoint| endpoint.address).collect();
        (SocketAddr::new(*vip, port.port), endpoints)
    });
    with_endpoints.filter(|(_, endpoints)| (1..=MOST_ENDPOINTS).contains(&endpoints.len())).collect()
}
