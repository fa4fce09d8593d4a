//! A pod: a network namespace behind its node, and its manifest.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::mesh::{MODE_LABEL, Shared, lock};
use crate::netns::Netns;
use crate::node::Node;
use crate::traffic::Site;
use crate::wire::Capture;

/// The namespace of pods and services that name none.
pub(crate) const DEFAULT_NAMESPACE: &str = "demo";

/// A pod that is about to be.
#[derive(Debug)]
#[must_use = "nothing happens before start()"]
pub struct PodBuilder {
    node: Node,
    spec: Spec,
}

/// A running pod: processes and sockets of the test act in its namespace.
#[derive(Clone, Debug)]
pub struct Pod {
    shared: Arc<Shared>,
    netns: Arc<Netns>,
    site: Site,
    ips: (IpAddr, IpAddr),
    spec: Arc<Mutex<Spec>>,
}

/// What the manifest says.
#[derive(Clone, Debug)]
struct Spec {
    name: String,
    namespace: String,
    service_account: String,
    node: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    ports: Vec<(String, u16)>,
    ready: bool,
    host_network: bool,
}

impl PodBuilder {
    pub(crate) fn new(node: &Node, name: &str) -> Self {
        let spec = Spec {
            name: name.to_owned(),
            namespace: DEFAULT_NAMESPACE.to_owned(),
            service_account: name.to_owned(),
            node: node.name().to_owned(),
            labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            annotations: BTreeMap::new(),
            ports: Vec::new(),
            ready: true,
            host_network: false,
        };
        Self { node: node.clone(), spec }
    }

    /// Its Kubernetes namespace; `demo` if not said.
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.spec.namespace);
        self
    }

    /// Its service account; its own name if not said.
    pub fn service_account(mut self, name: &str) -> Self {
        name.clone_into(&mut self.spec.service_account);
        self
    }

    /// A label. `app` is its name if not said.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.spec.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// An annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.spec.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A named container port, for services that say `targetPort: NAME`.
    pub fn port(mut self, name: &str, number: u16) -> Self {
        self.spec.ports.push((name.to_owned(), number));
        self
    }

    /// Not ready until told otherwise.
    pub fn unready(mut self) -> Self {
        self.spec.ready = false;
        self
    }

    /// Says `hostNetwork: true` in the manifest (the namespace stays its own).
    pub fn host_network(mut self) -> Self {
        self.spec.host_network = true;
        self
    }

    /// Makes the namespace and writes the manifest.
    #[must_use]
    pub fn start(self) -> Pod {
        let Self { node, spec } = self;
        let shared = Arc::clone(&node.shared);
        shared.ensure_namespace(&spec.namespace);
        let name = if spec.namespace == DEFAULT_NAMESPACE {
            spec.name.clone()
        } else {
            format!("{}.{}", spec.name, spec.namespace)
        };
        let netns = shared.create_netns(&name);
        let (v4, v6) = node.next_pod_addresses();
        connect_to_node(&node, &netns, v4, v6);
        let site = Site::new(&name, Arc::clone(&netns), Arc::clone(&shared.servers));
        let pod = Pod { shared, netns, site, ips: (v4, v6), spec: Arc::new(Mutex::new(spec)) };
        pod.write_service_account();
        pod.write_manifest();
        pod
    }
}

impl Pod {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        lock(&self.spec).name.clone()
    }

    /// Its Kubernetes namespace.
    #[must_use]
    pub fn namespace(&self) -> String {
        lock(&self.spec).namespace.clone()
    }

    /// The name of its node, as the manifests have it.
    #[must_use]
    pub fn node(&self) -> String {
        lock(&self.spec).node.clone()
    }

    /// What its certificate says.
    #[must_use]
    pub fn identity(&self) -> String {
        let spec = lock(&self.spec);
        format!("spiffe://cluster.local/ns/{}/sa/{}", spec.namespace, spec.service_account)
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.ips.0
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn ip6(&self) -> IpAddr {
        self.ips.1
    }

    /// A port on its IPv4 address.
    #[must_use]
    pub fn addr(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(), port)
    }

    /// A port on its IPv6 address.
    #[must_use]
    pub fn addr6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip6(), port)
    }

    /// Sets a label in the manifest.
    pub fn label(&self, key: &str, value: &str) {
        lock(&self.spec).labels.insert(key.to_owned(), value.to_owned());
        self.write_manifest();
    }

    /// Enrols this pod, whatever its namespace says.
    pub fn enrol(&self) {
        self.label(MODE_LABEL, "ambient");
    }

    /// Takes this pod out of the mesh, whatever its namespace says.
    pub fn opt_out(&self) {
        self.label(MODE_LABEL, "none");
    }

    /// Changes the service account in the manifest, and with it the identity.
    pub fn change_service_account(&self, name: &str) {
        name.clone_into(&mut lock(&self.spec).service_account);
        self.write_service_account();
        self.write_manifest();
    }

    /// Sets the pod's condition Ready.
    pub fn set_ready(&self, ready: bool) {
        lock(&self.spec).ready = ready;
        self.write_manifest();
    }

    /// Removes the manifest; the namespace and what runs in it stay.
    pub fn delete_manifest(&self) {
        self.shared.manifests.delete(&self.object());
    }

    /// Removes everything of the pod: manifest, the service account that it has for itself, and, with the last handle, the namespace.
    pub fn delete(self) {
        self.delete_manifest();
        self.shared.manifests.delete(&self.service_account());
    }

    /// The name of the manifest's file in the directory.
    #[must_use]
    pub fn manifest_file(&self) -> String {
        crate::manifests::file_name(&self.object())
    }

    /// Captures what crosses the pod's own interface.
    #[must_use]
    pub fn capture(&self) -> Capture {
        self.shared.capture(&self.netns, "eth0")
    }

    /// The pod as a Kubernetes object.
    #[must_use]
    pub fn object(&self) -> Value {
        let spec = lock(&self.spec);
        let ports = spec.ports.iter().map(|(name, port)| json!({ "name": name, "containerPort": port }));
        let mut annotations = spec.annotations.clone();
        annotations.insert("sotto.dev/netns".to_owned(), self.netns.path().display().to_string());
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": spec.name,
                "namespace": spec.namespace,
                "uid": format!("{}-{}", self.shared.id(), self.site),
                "labels": spec.labels,
                "annotations": annotations,
            },
            "spec": {
                "nodeName": spec.node,
                "serviceAccountName": spec.service_account,
                "hostNetwork": spec.host_network,
                "containers": [{ "name": "app", "image": "example/app", "ports": ports.collect::<Vec<_>>() }],
            },
            "status": {
                "phase": "Running",
                "podIP": self.ip(),
                "podIPs": [{ "ip": self.ip() }, { "ip": self.ip6() }],
                "conditions": [{ "type": "Ready", "status": if spec.ready { "True" } else { "False" } }],
            },
        })
    }

    fn write_manifest(&self) {
        self.shared.manifests.apply(&self.object());
    }

    fn write_service_account(&self) {
        self.shared.manifests.apply(&self.service_account());
    }

    fn service_account(&self) -> Value {
        let spec = lock(&self.spec);
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": { "name": spec.service_account, "namespace": spec.namespace },
        })
    }
}

impl Deref for Pod {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl std::fmt::Display for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace(), self.name())
    }
}

/// A point-to-point link as the CNI plugin `ptp` makes it: host addresses, a route to the node, no shared segment.
fn connect_to_node(node: &Node, netns: &Netns, v4: IpAddr, v6: IpAddr) {
    let (gateway4, gateway6) = node.gateways();
    let IpAddr::V6(bytes) = v6 else { unreachable!("the second address is IPv6") };
    let link = format!("pod{}", bytes.segments()[7]);
    node.netns().ip(&format!(
        "link add {link} type veth peer name eth0 netns {}\n\
         link set {link} up\n\
         addr add {gateway4}/32 dev {link}\n\
         addr add {gateway6}/128 dev {link} nodad\n\
         route add {v4} dev {link}\n\
         route add {v6} dev {link}",
        netns.name()
    ));
    netns.ip(&format!(
        "link set eth0 up\n\
         addr add {v4}/32 dev eth0\n\
         addr add {v6}/128 dev eth0 nodad\n\
         route add {gateway4} dev eth0\n\
         route add default via {gateway4} dev eth0\n\
         route add {gateway6} dev eth0\n\
         route add ::/0 via {gateway6} dev eth0"
    ));
}
