//! The endpoints that Kubernetes' controller would write, for manifests that have Services and pods but no slices.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use crate::mesh::source::field::FieldPath;
use crate::mesh::source::objects::endpoint_slice::{
    Endpoint, EndpointConditions, EndpointPort, EndpointSlice, SERVICE_NAME_LABEL,
};
use crate::mesh::source::objects::meta::ObjectMeta;
use crate::mesh::source::objects::pod::Pod;
use crate::mesh::source::objects::service::{Service, is_tcp};

use super::mesh::Objects;
use super::service::{TargetPort, target_port, tcp_ports, vips};
use super::{pod, value};

/// The slices of every Service that has a selector and no slice of its own.
///
/// A pod counts by its labels, in the Service's namespace. Without a `Ready` condition it is ready once it has an
/// address; a pod that is not ready, or on its way out, is listed as such; a finished one is not. A named target port
/// is looked up in each pod, and a pod without it is left out of that port.
#[must_use]
pub fn endpoint_slices(objects: &Objects<'_>) -> Vec<EndpointSlice> {
    let have_slices: HashSet<(&str, &str)> = objects
        .endpoint_slices
        .iter()
        .filter_map(|slice| Some((slice.metadata.namespace_or_default(), slice.service_name()?)))
        .collect();
    let mut pods: HashMap<&str, Vec<&Pod>> = HashMap::new();
    for &pod in &objects.pods {
        pods.entry(pod.metadata.namespace_or_default()).or_default().push(pod);
    }
    let wanted = objects.services.iter().filter(|service| {
        let key = (service.metadata.namespace_or_default(), service.metadata.name.as_str());
        !service.spec.selector.is_empty() && !service.is_external_name() && !have_slices.contains(&key)
    });
    wanted
        .flat_map(|service| {
            let candidates = pods.get(service.metadata.namespace_or_default());
            slices_of(service, candidates.map_or(&[], Vec::as_slice))
        })
        .collect()
}

/// The name of a service's port, and the number that a pod listens on for it.
type PortNumber = (String, i32);

/// One slice for each address family and each set of port numbers.
fn slices_of(service: &Service, candidates: &[&Pod]) -> Vec<EndpointSlice> {
    let mut groups: BTreeMap<(bool, Vec<PortNumber>), Vec<Endpoint>> = BTreeMap::new();
    let selected = candidates.iter().filter(|pod| is_selected(pod, service) && !pod.is_finished());
    for pod in selected {
        let ports = ports_of(service, pod);
        for ip in pod::addresses(pod).unwrap_or_default() {
            if wants_family(service, ip) {
                groups.entry((ip.is_ipv6(), ports.clone())).or_default().push(endpoint(pod, ip, service));
            }
        }
    }
    let slices = groups.into_iter().enumerate();
    slices.map(|(index, ((is_v6, ports), endpoints))| slice(service, index, is_v6, ports, endpoints)).collect()
}

fn is_selected(pod: &Pod, service: &Service) -> bool {
    service.spec.selector.iter().all(|(key, value)| pod.metadata.labels.get(key) == Some(value.as_str()))
}

/// The endpoints of a Service are of its own address families: those that it lists, or those of its addresses.
fn wants_family(service: &Service, ip: IpAddr) -> bool {
    let families = &service.spec.ip_families;
    if !families.is_empty() {
        return families.iter().any(|family| family == if ip.is_ipv6() { "IPv6" } else { "IPv4" });
    }
    let vips = vips(service).unwrap_or_default();
    vips.is_empty() || vips.iter().any(|vip| vip.is_ipv6() == ip.is_ipv6())
}

fn ports_of(service: &Service, pod: &Pod) -> Vec<PortNumber> {
    tcp_ports(service)
        .filter_map(|(index, port)| {
            let number = match target_port(port, index).ok()? {
                TargetPort::Number(number) => number,
                TargetPort::Name(name) => named_port(pod, name)?,
            };
            Some((port.name.clone(), number.into()))
        })
        .collect()
}

fn named_port(pod: &Pod, name: &str) -> Option<u16> {
    let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
    let found = ports.into_iter().find(|port| port.name == name && is_tcp(&port.protocol))?;
    value::port(found.container_port.into(), FieldPath::default()).ok()
}

fn endpoint(pod: &Pod, ip: IpAddr, service: &Service) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: EndpointConditions {
            ready: Some(pod.is_ready() || service.spec.publish_not_ready_addresses),
            terminating: Some(pod.metadata.is_terminating()),
        },
        node_name: pod.spec.node_name.clone(),
        ..Endpoint::default()
    }
}

fn slice(
    service: &Service,
    index: usize,
    is_v6: bool,
    ports: Vec<PortNumber>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let label = (SERVICE_NAME_LABEL, service.metadata.name.as_str());
    EndpointSlice {
        metadata: ObjectMeta {
            name: format!("{}-{index}", service.metadata.name),
            namespace: service.metadata.namespace.clone(),
            labels: [label].into_iter().collect(),
            ..ObjectMeta::default()
        },
        address_type: if is_v6 { "IPv6" } else { "IPv4" }.to_owned(),
        endpoints,
        ports: ports
            .into_iter()
            .map(|(name, port)| EndpointPort { name, port: Some(port), protocol: String::new() })
            .collect(),
    }
}
