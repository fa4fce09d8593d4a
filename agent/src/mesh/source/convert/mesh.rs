//! All objects to one view of the mesh.

use std::collections::HashMap;
use std::sync::Arc;

use crate::mesh::source::objects::authorization_policy::AuthorizationPolicy;
use crate::mesh::source::objects::endpoint_slice::EndpointSlice;
use crate::mesh::source::objects::kind::{Kind, Object, ObjectRef};
use crate::mesh::source::objects::meta::ObjectMeta;
use crate::mesh::source::objects::namespace::Namespace;
use crate::mesh::source::objects::node::Node;
use crate::mesh::source::objects::peer_authentication::PeerAuthentication;
use crate::mesh::source::objects::pod::Pod;
use crate::mesh::source::objects::service::Service;
use crate::mesh::source::problem::Problem;
use crate::mesh::source::shared::Shared;
use crate::model::enrolment::DATAPLANE_MODE_LABEL;
use crate::model::identity::TrustDomain;
use crate::model::policy::policies::DEFAULT_ROOT_NAMESPACE;
use crate::model::service as model;
use crate::model::view::MeshView;
use crate::model::workload::{Locality, Workload};

use super::pod::{Surroundings, workload};
use super::{conflicts, policy, reuse, service};

/// What a source decides about the conversion.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The trust domain of all identities.
    pub trust_domain: TrustDomain,
    /// The namespace whose policies are for the whole mesh.
    pub root_namespace: Arc<str>,
    /// Whether pods may say where their network namespace is (`sotto.dev/netns`). Only where those who write the
    /// objects are trusted with the node: a pod that names another's would be taken for it.
    pub netns_annotation: bool,
}

impl Default for Rules {
    fn default() -> Self {
        let root_namespace = DEFAULT_ROOT_NAMESPACE.into();
        Self { trust_domain: TrustDomain::default(), root_namespace, netns_annotation: false }
    }
}

/// The objects of the mesh by kind, each at most once.
#[derive(Clone, Debug, Default)]
pub struct Objects<'a> {
    /// Namespaces.
    pub namespaces: Vec<&'a Namespace>,
    /// Nodes.
    pub nodes: Vec<&'a Node>,
    /// Pods.
    pub pods: Vec<&'a Pod>,
    /// Services.
    pub services: Vec<&'a Service>,
    /// Endpoints of services.
    pub endpoint_slices: Vec<&'a EndpointSlice>,
    /// Who has to speak mutual TLS.
    pub peer_authentications: Vec<&'a PeerAuthentication>,
    /// Who may talk to whom.
    pub authorization_policies: Vec<&'a AuthorizationPolicy>,
}

/// What [`mesh`] makes of objects.
#[derive(Debug)]
pub struct Mesh {
    /// The mesh.
    pub view: MeshView,
    /// Objects that do not convert or contradict each other; without file and line.
    pub problems: Vec<Problem>,
}

impl<'a> Objects<'a> {
    /// Adds one object. Service accounts are not needed: pods name theirs.
    pub fn add(&mut self, object: &'a Object) {
        match object {
            Object::Namespace(namespace) => self.namespaces.push(namespace),
            Object::Node(node) => self.nodes.push(node),
            Object::ServiceAccount(_) => {}
            Object::Pod(pod) => self.pods.push(pod),
            Object::Service(service) => self.services.push(service),
            Object::EndpointSlice(slice) => self.endpoint_slices.push(slice),
            Object::PeerAuthentication(policy) => self.peer_authentications.push(policy),
            Object::AuthorizationPolicy(policy) => self.authorization_policies.push(policy),
        }
    }
}

/// Turns objects into a view. What does not convert is left out and reported; the order of the objects does not matter.
#[must_use]
pub fn mesh(objects: &Objects<'_>, rules: &Rules) -> Mesh {
    let mut problems = Vec::new();
    let mut workloads = workloads(objects, rules, &mut problems);
    let mut services = services(objects, &mut problems);
    workloads.sort_by(|a, b| a.pod.cmp(&b.pod));
    services.sort_by(|a, b| a.name.cmp(&b.name));
    problems.extend(conflicts::conflicts(&workloads, &services));
    let policies = policy::policies(objects, rules, &mut problems);
    Mesh { view: MeshView::new(workloads, services).with_policies(policies), problems }
}

fn workloads(objects: &Objects<'_>, rules: &Rules, problems: &mut Vec<Problem>) -> Vec<Workload> {
    let modes: HashMap<&str, &str> = objects
        .namespaces
        .iter()
        .filter_map(|namespace| {
            Some((namespace.metadata.name.as_str(), namespace.metadata.label(DATAPLANE_MODE_LABEL)?))
        })
        .collect();
    let localities: HashMap<&str, Locality> =
        objects.nodes.iter().map(|node| (node.metadata.name.as_str(), locality(&node.metadata))).collect();
    let (mut shared, mut found) = (Shared::default(), Vec::with_capacity(objects.pods.len()));
    for pod in &objects.pods {
        let namespace = pod.metadata.namespace_or_default();
        let around = Surroundings {
            namespace_mode: modes.get(namespace).copied(),
            locality: localities.get(pod.spec.node_name.as_str()).cloned().unwrap_or_default(),
        };
        match workload(pod, around, rules, &mut shared) {
            Ok(workload) => found.push((workload, *pod)),
            Err(fault) => problems.push(fault.of(ObjectRef::new(Kind::Pod, namespace, &pod.metadata.name))),
        }
    }
    reuse::settle(found, problems)
}

fn services(objects: &Objects<'_>, problems: &mut Vec<Problem>) -> Vec<model::Service> {
    let mut slices: HashMap<(&str, &str), Vec<&EndpointSlice>> = HashMap::new();
    for &slice in &objects.endpoint_slices {
        let namespace = slice.metadata.namespace_or_default();
        let mut faults = Vec::new();
        service::check_slice(slice, &mut faults);
        if let Some(fault) = faults.pop() {
            problems.push(fault.of(ObjectRef::new(Kind::EndpointSlice, namespace, &slice.metadata.name)));
        } else if let Some(service) = slice.service_name() {
            slices.entry((namespace, service)).or_default().push(slice);
        }
    }
    let mut services = Vec::with_capacity(objects.services.len());
    for found in &objects.services {
        let (namespace, name) = (found.metadata.namespace_or_default(), found.metadata.name.as_str());
        let slices = slices.get(&(namespace, name)).map_or(&[] as &[_], Vec::as_slice);
        match service::service(found, slices) {
            Ok(service) => services.extend(service),
            Err(fault) => problems.push(fault.of(ObjectRef::new(Kind::Service, namespace, name))),
        }
    }
    services
}

/// Where a node is: the stable labels, or those that came before them.
fn locality(node: &ObjectMeta) -> Locality {
    let either = |name: &str| {
        let stable = node.label(&format!("topology.kubernetes.io/{name}"));
        stable.or_else(|| node.label(&format!("failure-domain.beta.kubernetes.io/{name}"))).unwrap_or_default().into()
    };
    Locality { region: either("region"), zone: either("zone") }
}
