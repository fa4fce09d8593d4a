//! Where good objects contradict each other.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use crate::mesh::source::field::FieldPath;
use crate::mesh::source::objects::kind::{Kind, ObjectRef};
use crate::mesh::source::problem::{Fault, Problem};
use crate::model::service::Service;
use crate::model::workload::{ObjectName, Workload};

use super::annotations;

/// Addresses and network namespaces that two objects claim. Both lists are sorted by name, so that the answer does not
/// depend on the order of the source.
pub(super) fn conflicts<'a>(workloads: &'a [Workload], services: &'a [Service]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut owners: HashMap<IpAddr, (Kind, &ObjectName)> = HashMap::with_capacity(workloads.len() + services.len());
    let mut claim = |ip: IpAddr, by: (Kind, &'a ObjectName), field: &str| {
        if let Some(&first) = owners.get(&ip) {
            let first = reference(first);
            let message = format!("{ip} is the address of {first} too: one of them gets the other's traffic");
            problems.push(Fault::new(FieldPath::of(field), message).of(reference(by)));
        } else {
            owners.insert(ip, by);
        }
    };
    for service in services {
        for vip in &service.vips {
            claim(*vip, (Kind::Service, &service.name), "spec.clusterIP");
        }
    }
    for workload in workloads.iter().filter(|workload| !workload.host_network) {
        for ip in &workload.ips {
            claim(*ip, (Kind::Pod, &workload.pod), "status.podIP");
        }
    }
    problems.extend(shared_namespaces(workloads));
    problems
}

/// Two pods on one node in one network namespace cannot be told apart. Finished pods are in none.
fn shared_namespaces(workloads: &[Workload]) -> impl Iterator<Item = Problem> {
    let mut first: HashMap<(&str, &Path), &Workload> = HashMap::new();
    workloads.iter().filter(|workload| !workload.ips.is_empty()).filter_map(move |workload| {
        let netns = workload.netns.as_deref()?;
        let other = *first.entry((&workload.node, netns)).or_insert(workload);
        if other.pod == workload.pod {
            return None;
        }
        let field = FieldPath::of("metadata.annotations").key(annotations::NETNS);
        let message = format!("{} is the network namespace of Pod {} too", netns.display(), other.pod);
        Some(Fault::new(field, message).of(reference((Kind::Pod, &workload.pod))))
    })
}

fn reference((kind, name): (Kind, &ObjectName)) -> ObjectRef {
    ObjectRef::new(kind, &name.namespace, &name.name)
}
