//! What an operator asks of all nodes at once, with no more rights than `deploy/operator.yaml` gives.

use std::path::PathBuf;

use harness::kube::{Cluster, Kubectl};
use harness::{Told, operate};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::faults::agent_of;
use crate::installed::{Installed, SYSTEM};

/// What an administrator gives operators.
const ROLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/operator.yaml");

#[test]
fn one_command_shows_the_agents_of_all_nodes() {
    let Some(cluster) = Cluster::of_tier("one_command_shows_the_agents_of_all_nodes") else { return };
    let (kubectl, nodes) = (cluster.kubectl(), cluster.nodes());
    let mesh = Installed::new(&cluster);
    let operator = Operator::new(kubectl);
    let told = operator.ask(&[]);
    assert!(told.code == Some(3) && told.error.contains("pods is forbidden"), "{told:?}");

    operator.let_in(kubectl);
    let told = operator.ask(&[]);
    assert_eq!(told.code, Some(0), "{told:?}");
    println!("{}", told.text);
    let table: Vec<_> = told.text.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>()).collect();
    assert_eq!(table, [["NODE", "AGENT"], [nodes[0].name.as_str(), "ready"], [nodes[1].name.as_str(), "ready"]]);
    // Each agent has told of itself.
    let seen: Vec<_> = lines(&operator).into_iter().map(|line| line["status"]["config"]["node"].clone()).collect();
    assert_eq!(seen, [json!(nodes[0].name), json!(nodes[1].name)]);

    let nobody = operator.ask(&["--admin-addr", "127.0.0.1:9"]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    let refused = nobody.text.lines().filter(|line| line.contains("the kubelet cannot connect to port 9 of"));
    assert_eq!(refused.count(), 2, "{nobody:?}");

    let hanging = Pid::from_raw(agent_of(&mesh, &nodes[1]).cast_signed());
    kill(hanging, Signal::SIGSTOP).unwrap();
    let seen = lines(&operator);
    kill(hanging, Signal::SIGCONT).unwrap();
    assert_eq!(seen[0]["status"]["ready"], true, "{seen:#?}");
    assert_eq!(seen[1]["error"], "nothing within 15s", "{seen:#?}");
    drop(operator);
    mesh.remove();
}

fn lines(operator: &Operator<'_>) -> Vec<Value> {
    operator.ask(&["-o", "json"]).json().as_array().unwrap().clone()
}

/// Somebody with an account in the agents' namespace. The role and its binding go with the value.
struct Operator<'a> {
    kubectl: &'a Kubectl,
    _directory: TempDir,
    kubeconfig: PathBuf,
}

impl<'a> Operator<'a> {
    fn new(kubectl: &'a Kubectl) -> Self {
        let meta = json!({"name": "operator", "namespace": SYSTEM});
        kubectl.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}));
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}});
        let path = format!("/api/v1/namespaces/{SYSTEM}/serviceaccounts/operator/token");
        let token: Value = serde_json::from_str(&kubectl.create_raw(&path, &request).unwrap()).unwrap();
        let view = kubectl.run(&["config", "view", "--raw", "--flatten", "-o", "json"]);
        let mut config: Value = serde_json::from_str(&view).unwrap();
        for user in config["users"].as_array_mut().unwrap() {
            user["user"] = json!({"token": token["status"]["token"]});
        }
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { kubectl, _directory: directory, kubeconfig }
    }

    fn let_in(&self, kubectl: &Kubectl) {
        kubectl.run(&["apply", "-f", ROLE]);
        let account = format!("--serviceaccount={SYSTEM}:operator");
        kubectl.run(&["-n", SYSTEM, "create", "rolebinding", "operator", "--role=sotto-operator", &account]);
    }

    fn ask(&self, more: &[&str]) -> Told {
        let kubeconfig = self.kubeconfig.to_str().unwrap();
        operate(&[&["status", "--all-nodes", "--kubeconfig", kubeconfig], more].concat())
    }
}

impl Drop for Operator<'_> {
    fn drop(&mut self) {
        let delete = ["-n", SYSTEM, "delete", "--ignore-not-found", "rolebinding/operator", "serviceaccount/operator"];
        let _ = self.kubectl.attempt(&delete);
        let _ = self.kubectl.attempt(&["delete", "--ignore-not-found", "-f", ROLE]);
    }
}
