//! Services and EndpointSlices to services with their endpoints.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::mesh::source::field::{FieldPath, shorten};
use crate::mesh::source::objects::endpoint_slice::{EndpointPort, EndpointSlice};
use crate::mesh::source::objects::service::{IntOrString, Service, ServicePort, is_tcp};
use crate::mesh::source::problem::Fault;
use crate::model::service::{self as model, Endpoint};
use crate::model::workload::ObjectName;

use super::value;

/// The service with the endpoints that its slices give; none for a mere DNS alias.
pub(super) fn service(service: &Service, slices: &[&EndpointSlice]) -> Result<Option<model::Service>, Fault> {
    if service.is_external_name() {
        return Ok(None);
    }
    let mut ports = Vec::new();
    for (index, port) in tcp_ports(service) {
        ports.push(Arc::new(model::ServicePort {
            port: port_number(port, index)?,
            name: port.name.as_str().into(),
            endpoints: endpoints(&port.name, slices)?,
        }));
    }
    let metadata = &service.metadata;
    let name = ObjectName::new(metadata.namespace_or_default(), &metadata.name);
    Ok(Some(model::Service { name, vips: vips(service)?, ports }))
}

/// Everything that can be wrong with a Service.
pub(super) fn check_service(service: &Service, faults: &mut Vec<Fault>) {
    if service.is_external_name() {
        return;
    }
    faults.extend(vips(service).err());
    let mut numbers = BTreeMap::new();
    for (index, port) in tcp_ports(service) {
        // Without a target of its own, a bad port is its own bad target.
        faults.extend(target_port(port, index).err().filter(|fault| fault.field != port_field(index).key("port")));
        match port_number(port, index) {
            Err(fault) => faults.push(fault),
            Ok(number) => {
                if let Some(first) = numbers.insert(number, index) {
                    let message = format!("{number} is the port of spec.ports[{first}] too");
                    faults.push(Fault::new(port_field(index).key("port"), message));
                }
            }
        }
    }
}

/// Everything that can be wrong with an EndpointSlice.
pub(super) fn check_slice(slice: &EndpointSlice, faults: &mut Vec<Fault>) {
    match slice.address_type.as_str() {
        "FQDN" => return,
        "IPv4" | "IPv6" => {}
        other => {
            let message = format!("must be IPv4, IPv6 or FQDN, not {:?}", shorten(other));
            faults.push(Fault::new(FieldPath::of("addressType"), message));
            return;
        }
    }
    faults.extend(slice.ports.iter().enumerate().filter_map(|(index, port)| slice_port(port, index).err()));
    faults.extend(addresses(slice).filter_map(|(found, _)| found.err()));
}

/// The cluster IPs of a Service, the primary one first.
pub(super) fn vips(service: &Service) -> Result<Vec<IpAddr>, Fault> {
    let mut vips = Vec::new();
    for text in service.cluster_ips() {
        let position = service.spec.cluster_ips.iter().position(|ip| ip == text);
        let field = match position {
            Some(index) => FieldPath::of("spec.clusterIPs").index(index),
            None => FieldPath::of("spec.clusterIP"),
        };
        let vip = value::address(text, field)?;
        if !vips.contains(&vip) {
            vips.push(vip);
        }
    }
    Ok(vips)
}

/// Where the pods of a Service listen.
#[derive(Clone, Copy, Debug)]
pub(super) enum TargetPort<'a> {
    /// On this port, all of them.
    Number(u16),
    /// On the port that each pod calls by this name.
    Name(&'a str),
}

/// The target of one port of a Service: by default, the port itself.
pub(super) fn target_port(port: &ServicePort, index: usize) -> Result<TargetPort<'_>, Fault> {
    let field = port_field(index).key("targetPort");
    match &port.target_port {
        // Written out by old clients for "not set".
        None | Some(IntOrString::Int(0)) => port_number(port, index).map(TargetPort::Number),
        Some(IntOrString::Int(number)) => value::port(*number, field).map(TargetPort::Number),
        Some(IntOrString::String(name)) if name.is_empty() => port_number(port, index).map(TargetPort::Number),
        Some(IntOrString::String(name)) if name.bytes().all(|b| b.is_ascii_digit()) => {
            let message =
                format!("{:?} in quotes would be the name of a port: write the number without", shorten(name));
            Err(Fault::new(field, message))
        }
        Some(IntOrString::String(name)) => Ok(TargetPort::Name(name)),
    }
}

/// The TCP ports of a Service with their positions in the manifest.
pub(super) fn tcp_ports(service: &Service) -> impl Iterator<Item = (usize, &ServicePort)> {
    service.spec.ports.iter().enumerate().filter(|(_, port)| is_tcp(&port.protocol))
}

fn port_number(port: &ServicePort, index: usize) -> Result<u16, Fault> {
    value::port(port.port.into(), port_field(index).key("port"))
}

fn port_field(index: usize) -> FieldPath {
    FieldPath::of("spec.ports").index(index)
}

/// What the slices say about the port of that name. An address that two slices give is ready if one of them says so:
/// it may just be moving from one to the other.
fn endpoints(name: &str, slices: &[&EndpointSlice]) -> Result<Vec<Endpoint>, Fault> {
    let mut found: BTreeMap<SocketAddr, bool> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.address_type != "FQDN") {
        for (index, port) in slice.ports.iter().enumerate().filter(|(_, port)| port.name == name) {
            let Some(port) = slice_port(port, index)? else {
                continue;
            };
            for (ip, ready) in addresses(slice) {
                *found.entry(SocketAddr::new(ip?, port)).or_default() |= ready;
            }
        }
    }
    Ok(found.into_iter().map(|(address, ready)| Endpoint { address, ready }).collect())
}

/// The number of a slice's port; none if it is not TCP or leaves the number open.
fn slice_port(port: &EndpointPort, index: usize) -> Result<Option<u16>, Fault> {
    match port.port {
        Some(number) if is_tcp(&port.protocol) => {
            value::port(number.into(), FieldPath::of("ports").index(index).key("port")).map(Some)
        }
        _ => Ok(None),
    }
}

/// All addresses of a slice, each with whether it takes connections.
fn addresses(slice: &EndpointSlice) -> impl Iterator<Item = (Result<IpAddr, Fault>, bool)> {
    slice.endpoints.iter().enumerate().flat_map(|(outer, endpoint)| {
        let ready = endpoint.conditions.takes_connections();
        endpoint.addresses.iter().enumerate().map(move |(inner, text)| {
            let field = FieldPath::of("endpoints").index(outer).key("addresses").index(inner);
            (value::address(text, field), ready)
        })
    })
}
