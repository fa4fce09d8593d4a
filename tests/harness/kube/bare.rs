//! A mesh whose objects are in an API server, without kubelets: the test makes the pods' processes, in cgroups like a kubelet's.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::apiserver::ApiServer;
use crate::agent::AgentBuilder;
use crate::mesh::{MODE_LABEL, Mesh, Shared, lock};
use crate::node::Node;
use crate::pod::Pod;
use crate::process::Process;
use crate::traffic::Cgroup;

/// Where the underlay's own address is, which every node reaches.
const UNDERLAY: [u8; 4] = [10, 200, 0, 254];

/// An API server that knows the nodes and pods of a mesh.
#[derive(Debug)]
pub struct BareCluster {
    server: ApiServer,
    shared: Arc<Shared>,
    /// What a kubelet's pods are in.
    cgroup: Cgroup,
    processes: Mutex<Vec<Arc<Process>>>,
}

impl Mesh {
    /// Starts an API server for this mesh. None, with a line that starts with `skipped:`, where there are no programs for it.
    #[must_use]
    pub fn cluster(&self, test: &str) -> Option<BareCluster> {
        let server = ApiServer::start_at(test, UNDERLAY.into(), Some(self.shared.underlay()))?;
        let cgroup = self.cgroup("pods");
        Some(BareCluster { server, shared: Arc::clone(&self.shared), cgroup, processes: Mutex::default() })
    }
}

impl BareCluster {
    /// The API server itself.
    #[must_use]
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// Tells it of a node.
    pub fn add_node(&self, node: &Node) {
        self.server.create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name()}}));
    }

    /// Tells it of a namespace.
    pub fn add_namespace(&self, name: &str) {
        self.server.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    }

    /// Tells it of a pod; gives the pod's UID.
    pub fn add_object(&self, pod: &Pod) -> String {
        let mut object = pod.object();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("uid");
            metadata.remove("annotations");
        }
        let created = self.server.create(&object);
        created["metadata"]["uid"].as_str().expect("the API server gives UIDs").to_owned()
    }

    /// Starts a pod's first process, as a container runtime would; gives its id.
    ///
    /// # Panics
    /// When it cannot be put into a cgroup.
    pub fn start_container(&self, pod: &Pod, uid: &str, container: &str) -> u32 {
        let process = self.shared.start(
            &format!("the container {container} of {pod}"),
            pod.netns(),
            Command::new("sleep").arg("infinity"),
            &self.shared.path(&format!("container-{uid}-{container}.log")),
        );
        let cgroup = self.cgroup.below(&format!("kubepods/besteffort/pod{uid}/{container}"));
        fs::write(cgroup.join("cgroup.procs"), process.pid().to_string())
            .unwrap_or_else(|error| panic!("cannot use the cgroup {}: {error}", cgroup.display()));
        let pid = process.pid();
        lock(&self.processes).push(process);
        pid
    }

    /// Tells it of a pod that runs: a sandbox and a container. Gives the UID.
    pub fn add_pod(&self, pod: &Pod) -> String {
        let uid = self.add_object(pod);
        self.start_container(pod, &uid, "sandbox");
        self.start_container(pod, &uid, "app");
        uid
    }

    /// Begins the agent of a node, on this API server.
    pub fn agent(&self, node: &Node) -> AgentBuilder {
        node.agent().on_cluster(&self.server.kubeconfig())
    }

    /// Enrols the pods of a namespace by its label, or takes them out.
    pub fn label_namespace(&self, name: &str, ambient: bool) {
        let mode = if ambient { json!("ambient") } else { Value::Null };
        self.server.patch(&format!("/api/v1/namespaces/{name}"), &json!({"metadata": {"labels": {MODE_LABEL: mode}}}));
    }

    /// A pod as the API server has it.
    #[must_use]
    pub fn get_pod(&self, pod: &Pod) -> Value {
        self.server.get(&format!("/api/v1/namespaces/{}/pods/{}", pod.namespace(), pod.name()))
    }
}

impl Drop for BareCluster {
    fn drop(&mut self) {
        // Before their cgroup is removed.
        lock(&self.processes).iter().for_each(|process| process.kill());
    }
}
