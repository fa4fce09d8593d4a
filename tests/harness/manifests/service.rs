//! Kubernetes Services, with a selector or with their endpoints written out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::mesh::Shared;
use crate::pod::{DEFAULT_NAMESPACE, Pod};

/// A service that is about to be.
#[derive(Debug)]
#[must_use = "nothing happens before create()"]
pub struct ServiceBuilder {
    shared: Arc<Shared>,
    name: String,
    namespace: String,
    headless: bool,
    ports: Vec<Port>,
    selector: BTreeMap<String, String>,
    endpoints: Vec<(IpAddr, bool)>,
}

#[derive(Clone, Debug)]
struct Port {
    name: String,
    port: u16,
    /// A number, or the name of a container's port.
    target: Value,
}

/// A Service in the manifests.
#[derive(Clone, Debug)]
pub struct Service {
    shared: Arc<Shared>,
    name: String,
    namespace: String,
    vips: Option<(IpAddr, IpAddr)>,
    ports: Vec<Port>,
}

impl ServiceBuilder {
    pub(crate) fn new(shared: &Arc<Shared>, name: &str) -> Self {
        Self {
            shared: Arc::clone(shared),
            name: name.to_owned(),
            namespace: DEFAULT_NAMESPACE.to_owned(),
            headless: false,
            ports: Vec::new(),
            selector: BTreeMap::new(),
            endpoints: Vec::new(),
        }
    }

    /// Its Kubernetes namespace; `demo` if not said.
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// A port, and the pods' port behind it.
    pub fn port(mut self, port: u16, target: u16) -> Self {
        self.ports.push(Port { name: format!("p{port}"), port, target: target.into() });
        self
    }

    /// A port, and the name that the pods give to the port behind it.
    pub fn port_to_name(mut self, port: u16, target: &str) -> Self {
        self.ports.push(Port { name: format!("p{port}"), port, target: target.into() });
        self
    }

    /// Without cluster IPs.
    pub fn headless(mut self) -> Self {
        self.headless = true;
        self
    }

    /// Leads to the pods of its namespace with this label.
    pub fn selector(mut self, key: &str, value: &str) -> Self {
        self.selector.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Leads to these pods: writes an EndpointSlice instead of leaving the choice to a selector.
    pub fn pods(self, pods: &[&Pod]) -> Self {
        pods.iter().fold(self, |service, pod| service.endpoint(pod.ip(), true))
    }

    /// Leads to this address: writes an EndpointSlice instead of leaving the choice to a selector.
    pub fn endpoint(mut self, address: IpAddr, ready: bool) -> Self {
        self.endpoints.push((address, ready));
        self
    }

    /// Writes the manifests.
    #[must_use]
    pub fn create(self) -> Service {
        self.shared.ensure_namespace(&self.namespace);
        let vips = (!self.headless).then(|| {
            let number = self.shared.next_service();
            let v6 = Ipv6Addr::new(0xfd00, 0x202, 0, 0, 0, 0, 0, number.into());
            (IpAddr::from(Ipv4Addr::new(10, 202, 0, number)), IpAddr::from(v6))
        });
        let service =
            Service { shared: self.shared, name: self.name, namespace: self.namespace, vips, ports: self.ports };
        // First where it leads: whoever sees the service then sees its endpoints.
        if self.selector.is_empty() {
            service.set_endpoints(&self.endpoints);
        }
        service.write(&self.selector);
        service
    }
}

impl Service {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its Kubernetes namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A port on its IPv4 cluster IP.
    ///
    /// # Panics
    /// When it is headless.
    #[must_use]
    pub fn addr(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.vips.expect("a service with cluster IPs").0, port)
    }

    /// A port on its IPv6 cluster IP.
    ///
    /// # Panics
    /// When it is headless.
    #[must_use]
    pub fn addr6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.vips.expect("a service with cluster IPs").1, port)
    }

    /// Its DNS name.
    #[must_use]
    pub fn hostname(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name, self.namespace)
    }

    /// Writes its EndpointSlices, one per address family: addresses, and whether they are ready.
    pub fn set_endpoints(&self, endpoints: &[(IpAddr, bool)]) {
        for (family, v4) in [("IPv4", true), ("IPv6", false)] {
            let of_family: Vec<_> = endpoints.iter().filter(|(ip, _)| ip.is_ipv4() == v4).collect();
            if !v4 && of_family.is_empty() {
                continue;
            }
            let ports = self.ports.iter().map(|p| json!({ "name": p.name, "port": p.target, "protocol": "TCP" }));
            let entries = of_family
                .iter()
                .map(|(ip, ready)| json!({ "addresses": [ip], "conditions": { "ready": ready, "serving": ready } }));
            self.shared.manifests.apply(&json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{}-{}", self.name, family.to_lowercase()),
                    "namespace": self.namespace,
                    "labels": { "kubernetes.io/service-name": self.name },
                },
                "addressType": family,
                "ports": ports.collect::<Vec<_>>(),
                "endpoints": entries.collect::<Vec<_>>(),
            }));
        }
    }

    fn write(&self, selector: &BTreeMap<String, String>) {
        let ports = self
            .ports
            .iter()
            .map(|p| json!({ "name": p.name, "port": p.port, "targetPort": p.target, "protocol": "TCP" }));
        let (ip, ips) = match self.vips {
            Some((v4, v6)) => (v4.to_string(), vec![v4.to_string(), v6.to_string()]),
            None => ("None".to_owned(), vec!["None".to_owned()]),
        };
        let mut spec = json!({
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": ips,
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack",
            "ports": ports.collect::<Vec<_>>(),
        });
        if !selector.is_empty() {
            spec["selector"] = json!(selector);
        }
        self.shared.manifests.apply(&json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": self.name, "namespace": self.namespace },
            "spec": spec,
        }));
    }
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
