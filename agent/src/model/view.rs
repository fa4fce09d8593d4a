//! The mesh as it is at one moment: an immutable snapshot with the look-ups of the data path.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use super::policy::policies::Policies;
use super::policy::workload::WorkloadPolicies;
use super::service::{Service, ServicePort};
use super::workload::{ObjectName, Workload};

/// Everything known of the mesh, indexed. Built by one writer, shared behind an `Arc`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MeshView {
    workloads: HashMap<ObjectName, Known>,
    by_ip: HashMap<IpAddr, Arc<Workload>>,
    services: HashMap<ObjectName, Arc<Service>>,
    by_vip: HashMap<IpAddr, Arc<Service>>,
    headless: HashMap<SocketAddr, Arc<Service>>,
    policies: Policies,
}

/// A pod.
#[derive(Debug)]
struct Known {
    workload: Arc<Workload>,
    /// Its policies, once somebody has asked for them: only the agent of the pod's own node ever does.
    policies: OnceLock<Arc<WorkloadPolicies>>,
}

/// What has been asked for makes no difference between views.
impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.workload == other.workload
    }
}

impl Eq for Known {}

/// What an address that a client asked for stands for.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A port of a service.
    Service(Arc<Service>, Arc<ServicePort>),
    /// A service's address, but a port that it does not have.
    UnknownPort(Arc<Service>),
    /// A pod's own address; with the headless service that the address belongs to, if there is just one.
    Workload(Arc<Workload>, Option<Arc<Service>>),
    /// Nothing of the mesh's state.
    External,
}

impl MeshView {
    /// Indexes the given objects. Pods on the host network are not indexed by address: theirs is the node's.
    /// Where two pods claim one address, the enrolled one wins, then the one that sorts first.
    #[must_use]
    pub fn new(workloads: impl IntoIterator<Item = Workload>, services: impl IntoIterator<Item = Service>) -> Self {
        let mut view = Self::default();
        for workload in workloads {
            view.add_workload(Arc::new(workload));
        }
        let mut services: Vec<_> = services.into_iter().map(Arc::new).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        for service in services {
            view.add_service(service);
        }
        view
    }

    /// The same view with these policies in force.
    #[must_use]
    pub fn with_policies(mut self, policies: Policies) -> Self {
        self.policies = policies;
        self.workloads.values_mut().for_each(|known| known.policies = OnceLock::new());
        self
    }

    /// All policies of the mesh.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The policies that apply to a pod; put together at the first call. None for a pod that is not known.
    #[must_use]
    pub fn policies_of(&self, pod: &ObjectName) -> Option<Arc<WorkloadPolicies>> {
        let Known { workload, policies } = self.workloads.get(pod)?;
        let find = || Arc::new(self.policies.of(&pod.namespace, &workload.labels));
        Some(Arc::clone(policies.get_or_init(find)))
    }

    /// What `address` stands for.
    #[must_use]
    pub fn destination(&self, address: SocketAddr) -> Destination {
        if let Some(service) = self.by_vip.get(&address.ip()) {
            return match service.port(address.port()) {
                Some(port) => Destination::Service(Arc::clone(service), Arc::clone(port)),
                None => Destination::UnknownPort(Arc::clone(service)),
            };
        }
        match self.by_ip.get(&address.ip()) {
            Some(workload) => Destination::Workload(Arc::clone(workload), self.headless.get(&address).cloned()),
            None => Destination::External,
        }
    }

    /// The service that has an address.
    #[must_use]
    pub fn service_at(&self, ip: IpAddr) -> Option<&Arc<Service>> {
        self.by_vip.get(&ip)
    }

    /// The pod that owns an address.
    #[must_use]
    pub fn workload_at(&self, ip: IpAddr) -> Option<&Arc<Workload>> {
        self.by_ip.get(&ip)
    }

    /// A pod by namespace and name.
    #[must_use]
    pub fn workload(&self, pod: &ObjectName) -> Option<&Arc<Workload>> {
        self.workloads.get(pod).map(|known| &known.workload)
    }

    /// A service by its DNS name, as [`Service::hostname`] spells it.
    #[must_use]
    pub fn service_named(&self, hostname: &str) -> Option<&Arc<Service>> {
        let (name, rest) = hostname.split_once('.')?;
        let namespace = rest.strip_suffix(".svc.cluster.local")?;
        self.services.get(&ObjectName::new(namespace, name))
    }

    /// All pods, in no order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.values().map(|known| &known.workload)
    }

    /// All services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    fn add_workload(&mut self, workload: Arc<Workload>) {
        let rank = |w: &Workload| (!w.is_enrolled(), w.pod.clone());
        if !workload.host_network {
            for ip in &workload.ips {
                let slot = self.by_ip.entry(*ip).or_insert_with(|| Arc::clone(&workload));
                if rank(&workload) < rank(slot) {
                    *slot = Arc::clone(&workload);
                }
            }
        }
        self.workloads.insert(workload.pod.clone(), Known { workload, policies: OnceLock::new() });
    }

    fn add_service(&mut self, service: Arc<Service>) {
        for vip in &service.vips {
            self.by_vip.entry(*vip).or_insert_with(|| Arc::clone(&service));
        }
        if service.vips.is_empty() {
            for endpoint in service.ports.iter().flat_map(|p| &p.endpoints) {
                self.headless.entry(endpoint.address).or_insert_with(|| Arc::clone(&service));
            }
        }
        self.services.insert(service.name.clone(), service);
    }
}
