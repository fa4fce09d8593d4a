//! `sotto check` on an API server: whether it answers, whether clocks agree, what the credentials allow.

use std::path::Path;

use harness::{ApiServer, Told, operate};
use serde_json::{Value, json};

const SYSTEM: &str = "/api/v1/namespaces/sotto-system";

/// What a user installs.
const NODE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kustomize/node-rbac.yaml");

#[test]
fn a_check_tells_what_the_agents_account_may_not_do() {
    let Some(server) = ApiServer::start("a_check_tells_what_the_agents_account_may_not_do") else { return };
    for kind in ["Namespace", "ServiceAccount"] {
        let name = if kind == "Namespace" { "sotto-system" } else { "sotto-node" };
        let mut object = json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name } });
        if kind == "ServiceAccount" {
            object["metadata"]["namespace"] = "sotto-system".into();
        }
        server.create(&object);
    }
    let token = server.post(
        &format!("{SYSTEM}/serviceaccounts/sotto-node/token"),
        &json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": { "expirationSeconds": 3600 } }),
    );
    let kubeconfig = server.kubeconfig_with(token["status"]["token"].as_str().unwrap());

    let told = check(&kubeconfig);
    assert_eq!(finding(&told, "API server"), json!(["ok", "answers"]));
    let clocks = finding(&told, "clocks");
    assert_eq!(clocks[0], "ok", "it is the same clock: {clocks}");
    let rights = finding(&told, "RBAC");
    assert_eq!(rights[0], "failed", "{rights}");
    for right in ["list pods", "watch authorizationpolicies.security.istio.io", "patch pods/status", "create events"] {
        assert!(rights[1].as_str().unwrap().contains(right), "{right}: {rights}");
    }

    for role in roles(Path::new(NODE)) {
        server.create(&role);
    }
    assert_eq!(finding(&check(&kubeconfig), "RBAC"), json!(["ok", "all 16 rights of a node's agent"]));

    server.patch(
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/sotto-node",
        &json!({ "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"] }] }),
    );
    let rights = finding(&check(&kubeconfig), "RBAC");
    let lacking = rights[1].as_str().unwrap();
    assert!(lacking.contains("list nodes") && !lacking.contains("list pods"), "{rights}");

    server.stop_server();
    let away = finding(&check(&kubeconfig), "API server");
    assert!(away[0] == "failed" && away[1].as_str().unwrap().contains("cannot be reached"), "{away}");
}

#[test]
fn who_asks_for_all_nodes_hears_why_nobody_can_be_asked() {
    let Some(server) = ApiServer::start("who_asks_for_all_nodes_hears_why_nobody_can_be_asked") else { return };
    let meta = json!({ "name": "sotto-system" });
    server.create(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": meta }));
    let ask = |kubeconfig: &Path, more: &[&str]| {
        operate(&[&["status", "--all-nodes", "--kubeconfig", kubeconfig.to_str().unwrap()], more].concat())
    };
    let silent = |told: &Told, words: &str| {
        assert!(told.code == Some(3) && told.error.contains(words), "{words}: {told:?}");
    };
    let all = server.kubeconfig();
    silent(&ask(&all, &[]), "no pod with the label app.kubernetes.io/name=sotto-node in the namespace sotto-system");
    silent(&ask(&all, &["--context", "other"]), "other");
    silent(&ask(Path::new("/nowhere/kubeconfig"), &[]), "/nowhere/kubeconfig");
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "nobody", "namespace": "sotto-system" } });
    server.create(&account);
    let token = server.post(
        &format!("{SYSTEM}/serviceaccounts/nobody/token"),
        &json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": { "expirationSeconds": 3600 } }),
    );
    let nobody = server.kubeconfig_with(token["status"]["token"].as_str().unwrap());
    silent(&ask(&nobody, &[]), "403");

    // Nothing can be forwarded here: there is no kubelet.
    let labels = json!({ "app.kubernetes.io/name": "sotto-node" });
    for (name, phase) in [("agent-a", "Running"), ("agent-b", "Pending")] {
        server.create(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "sotto-system", "labels": labels },
            "spec": { "nodeName": format!("node-{name}"), "containers": [{ "name": "c", "image": "i" }] },
            "status": { "phase": phase },
        }));
    }
    let told = ask(&all, &["-o", "json"]);
    assert_eq!(told.code, Some(1), "{told:?}");
    let lines = told.json();
    let error = |at: usize| lines[at]["error"].as_str().unwrap().to_owned();
    assert_eq!((&lines[0]["node"], &lines[1]["node"]), (&json!("node-agent-a"), &json!("node-agent-b")));
    assert!(error(0).contains("port-forward to port 15000 of sotto-system/agent-a"), "{lines}");
    assert_eq!(error(1), "the pod is not running (Pending)");
}

/// The findings, as an agent's pod would have them.
fn check(kubeconfig: &Path) -> Told {
    let told = operate(&["check", "-o", "json", "--kubeconfig", kubeconfig.to_str().unwrap()]);
    assert!(matches!(told.code, Some(0 | 1)), "{told:?}");
    told
}

/// How one check ended, and what was seen.
fn finding(told: &Told, check: &str) -> Value {
    let findings = told.json();
    let found = findings.as_array().unwrap().iter().find(|finding| finding["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} in {findings}"));
    json!([found["outcome"], found["what"]])
}

/// The ClusterRole and its binding.
fn roles(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let objects = text.split("\n---\n").map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    objects.filter(|object| object["kind"].as_str().unwrap().starts_with("ClusterRole")).collect()
}
