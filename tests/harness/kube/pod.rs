//! Pods that kubelets run.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::kubectl::{Kubectl, TestNamespace};
use crate::wait::eventually;

/// An image that every node has: a shell with nc, httpd, ip, nsenter and the like.
pub const BUSYBOX: &str = "localhost/busybox:1";
/// From the object to a container that is ready; generous, for a machine with other work.
const START: Duration = Duration::from_secs(90);

/// A pod that was seen Ready.
#[derive(Debug, Clone)]
pub struct KubePod {
    kubectl: Kubectl,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What Kubernetes calls this very pod, and no later one of its name.
    pub uid: String,
    /// The Node's name.
    pub node: String,
    /// Its address.
    pub ip: IpAddr,
}

impl Cluster {
    /// Runs a shell script in a busybox pod on a node and waits until the pod is Ready. `change` has the last word on the
    /// object.
    ///
    /// # Panics
    /// When the pod does not get Ready; the message shows what Kubernetes says of it.
    #[track_caller]
    #[must_use]
    pub fn run_pod(
        &self,
        namespace: &TestNamespace,
        name: &str,
        node: &str,
        script: &str,
        change: impl FnOnce(&mut Value),
    ) -> KubePod {
        self.apply_pod(namespace, name, node, script, change);
        self.await_pod(namespace.name(), name)
    }

    /// As [`Self::run_pod`], without waiting.
    #[track_caller]
    pub fn apply_pod(
        &self,
        namespace: &TestNamespace,
        name: &str,
        node: &str,
        script: &str,
        change: impl FnOnce(&mut Value),
    ) {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace.name(), "labels": {"app": name}},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": node}, "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "image": BUSYBOX, "imagePullPolicy": "Never", "command": ["/bin/sh", "-c", script]}],
            },
        });
        change(&mut pod);
        self.kubectl().apply(&pod);
    }

    /// Waits until a pod is Ready.
    ///
    /// # Panics
    /// When it does not get there.
    #[track_caller]
    #[must_use]
    pub fn await_pod(&self, namespace: &str, name: &str) -> KubePod {
        let kubectl = self.kubectl();
        let end = START.as_secs().to_string();
        let wait = format!("--timeout={end}s");
        let pod = format!("pod/{name}");
        if let Err(error) = kubectl.attempt(&["-n", namespace, "wait", "--for=condition=Ready", &pod, &wait]) {
            let told = kubectl.attempt(&["-n", namespace, "describe", "pod", name]);
            panic!("the pod {namespace}/{name} is not Ready: {error}\n{}", told.unwrap_or_else(|error| error));
        }
        let object = kubectl.get(&["-n", namespace, "pod", name]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        KubePod {
            kubectl: kubectl.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: text(&object["metadata"]["uid"]),
            node: text(&object["spec"]["nodeName"]),
            ip: text(&object["status"]["podIP"]).parse().expect("a pod that is Ready has an address"),
        }
    }
}

impl KubePod {
    /// The object as it is now.
    ///
    /// # Panics
    /// When the server does not answer.
    #[track_caller]
    #[must_use]
    pub fn object(&self) -> Value {
        self.kubectl.get(&["-n", &self.namespace, "pod", &self.name])
    }

    /// A shell script in the pod, to be run as the caller likes.
    #[must_use]
    pub fn shell(&self, script: &str) -> Command {
        self.kubectl.command(&["-n", &self.namespace, "exec", &self.name, "--", "/bin/sh", "-c", script])
    }

    /// What a shell script in the pod prints, or what it says when it fails.
    ///
    /// # Errors
    /// When the script or the way to the pod fails.
    pub fn attempt(&self, script: &str) -> Result<String, String> {
        self.kubectl.attempt(&["-n", &self.namespace, "exec", &self.name, "--", "/bin/sh", "-c", script])
    }

    /// Sends one HTTP request and returns the body. Waits for an answer: the server may be about to listen.
    ///
    /// # Panics
    /// When nobody answers in time.
    #[track_caller]
    #[must_use]
    pub fn fetch(&self, address: IpAddr, port: u16) -> String {
        let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} {port}");
        let what = format!("{}/{} gets an answer from {address}:{port}", self.namespace, self.name);
        eventually(Duration::from_secs(30), &what, || {
            let answer = self.attempt(&script).ok()?;
            Some(answer.split_once("\r\n\r\n")?.1.trim().to_owned())
        })
    }
}
