//! A cluster of objects with two nodes, an agent on each, and pods: what asks `sotto controller` for certificates.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use harness::{ApiServer, Controller, eventually};
use serde_json::{Value, json};
use sotto::control::authority::remote::{self, RemoteAuthority};
use sotto::drivers::certs::authority::{Authority as _, IssuedChain, SigningRequest};
use sotto::drivers::certs::keys::PrivateKey;
use sotto::drivers::certs::store::IdentityHandle;
use sotto::drivers::certs::tls::config::{client_config, server_config};
use sotto::drivers::certs::tls::handshake::{accept, connect};
use sotto::model::identity::Identity;
use tempfile::TempDir;

use crate::following::SOON;

pub(crate) const SYSTEM: &str = "/api/v1/namespaces/sotto-system";

/// What is given to a handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cluster with two nodes, an agent on each, and pods.
pub(crate) struct Lab {
    pub(crate) server: ApiServer,
    directory: TempDir,
}

impl Lab {
    pub(crate) fn new(test: &str) -> Option<Self> {
        let server = ApiServer::start(test)?;
        Controller::install(&server);
        server.create(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "demo" } }));
        let lab = Self { server, directory: tempfile::tempdir().unwrap() };
        for (namespace, name, account, node) in [
            ("sotto-system", "agent-a", "sotto-node", "node-a"),
            ("sotto-system", "agent-b", "sotto-node", "node-b"),
            ("sotto-system", "other-a", "somebody", "node-a"),
            ("demo", "client", "client", "node-a"),
            ("demo", "server", "server", "node-a"),
            ("demo", "far", "far", "node-b"),
        ] {
            lab.add_pod(namespace, name, (account, node), &json!({}));
        }
        Some(lab)
    }

    pub(crate) fn add_pod(&self, namespace: &str, name: &str, (account, node): (&str, &str), more: &Value) -> String {
        let mut spec =
            json!({ "serviceAccountName": account, "nodeName": node, "containers": [{ "name": "c", "image": "i" }] });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let meta = json!({ "name": name, "namespace": namespace });
        let pod = self.server.create(&json!({ "apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec }));
        pod["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// A token of a service account in `sotto-system`, bound to a pod unless that is empty.
    pub(crate) fn token(&self, account: &str, pod: &str, audience: &str) -> String {
        let mut spec = json!({ "audiences": [audience], "expirationSeconds": 3600 });
        if !pod.is_empty() {
            let uid = self.server.get(&format!("{SYSTEM}/pods/{pod}"))["metadata"]["uid"].clone();
            spec["boundObjectRef"] = json!({ "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid });
        }
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
        let answer = self.server.post(&format!("{SYSTEM}/serviceaccounts/{account}/token"), &request);
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// What the kubelet does for an agent: the published roots and a token as files.
    pub(crate) fn agent(&self, controller: &Controller, token: &str) -> remote::Config {
        self.publish();
        let name =
            self.directory.path().join(format!("token-{}", fs::read_dir(self.directory.path()).unwrap().count()));
        fs::write(&name, token).unwrap();
        remote::Config {
            address: controller.address().to_string(),
            server_name: "sotto-controller.sotto-system.svc".into(),
            roots: self.directory.path().join("roots"),
            token: name,
            cluster: "Kubernetes".into(),
        }
    }

    pub(crate) fn publish(&self) {
        let next = self.directory.path().join("next");
        fs::write(&next, self.roots()).unwrap();
        fs::rename(next, self.directory.path().join("roots")).unwrap();
    }

    pub(crate) fn roots(&self) -> String {
        eventually(SOON, "the roots are published", || {
            let maps = self.server.get(&format!("{SYSTEM}/configmaps"));
            let map = maps["items"].as_array()?.iter().find(|map| map["metadata"]["name"] == "sotto-ca-root-cert")?;
            Some(map["data"]["root-cert.pem"].as_str()?.to_owned())
        })
    }
}

pub(crate) fn identity(name: &str) -> Identity {
    format!("spiffe://cluster.local/ns/demo/sa/{name}").parse().unwrap()
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub(crate) fn ask(agent: &remote::Config, name: &str) -> Result<IssuedChain, String> {
    runtime().block_on(async {
        RemoteAuthority::new(agent.clone()).sign(request(name)).await.map_err(|error| error.to_string())
    })
}

fn request(name: &str) -> SigningRequest {
    let key = PrivateKey::generate().unwrap();
    let (csr, identity) = (key.request(&identity(name)).unwrap(), identity(name));
    SigningRequest { csr, identity, lifetime: Duration::from_secs(600) }
}

#[track_caller]
pub(crate) fn refused(agent: &remote::Config, name: &str, why: &str) {
    match ask(agent, name) {
        Err(error) => assert!(error.contains(why), "{why:?} is not in {error:?}"),
        Ok(_) => panic!("{name} was issued where it should be refused: {why}"),
    }
}

/// A handshake as two pods make it.
pub(crate) async fn greet(client: &IdentityHandle, server: &IdentityHandle) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let expected = Arc::new([server.identity().clone()]);
    let (client, server) = (client_config(client, expected, &[b"h2"]), server_config(server, &[b"h2"]));
    let (connected, accepted) = tokio::join!(connect(near, &client, PATIENCE), accept(far, &server, PATIENCE));
    connected.unwrap_or_else(|error| panic!("the client: {error}"));
    accepted.unwrap_or_else(|error| panic!("the server: {error}"));
}
