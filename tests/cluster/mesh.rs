//! sotto, installed from `deploy/` as users install it: pods join by their namespace's label, talk, and leave.

use std::path::Path;
use std::time::Duration;

use harness::kube::Cluster;
use harness::{DEADLINE, Marker, eventually, holds_for};
use serde_json::{Value, json};

use crate::installed::{Installed, Load, SETTLE, SYSTEM, ask, first_act, label, life, serve, wait_marked};

/// Adds a probe of each kind that busybox can answer; one failure is one too many.
fn probed(pod: &mut Value) {
    let container = &mut pod["spec"]["containers"][0];
    let often = |mut probe: Value| {
        probe["periodSeconds"] = json!(1);
        probe["failureThreshold"] = json!(2);
        probe["timeoutSeconds"] = json!(5);
        probe
    };
    container["readinessProbe"] = often(json!({"httpGet": {"path": "/", "port": 8080}}));
    container["livenessProbe"] = often(json!({"tcpSocket": {"port": 8080}, "initialDelaySeconds": 2}));
}

#[test]
fn pods_join_by_label_talk_and_leave_without_a_restart() {
    let Some(cluster) = Cluster::of_tier("pods_join_by_label_talk_and_leave_without_a_restart") else { return };
    let (kubectl, nodes) = (cluster.kubectl(), cluster.nodes());
    let before: Vec<_> = nodes.iter().map(|node| conf(&node.folder)).collect();
    let secret = Marker::new();
    let namespace = kubectl.namespace("meshed", &json!({}));
    let outside = kubectl.namespace("outside", &json!({}));
    let server = cluster.run_pod(&namespace, "server", &nodes[1].name, &serve(&secret), probed);
    let client = cluster.run_pod(&namespace, "client", &nodes[0].name, "sleep 100000", |_| {});
    let stranger = cluster.run_pod(&outside, "stranger", &nodes[0].name, "sleep 100000", |_| {});
    let lives = [&client, &server].map(|pod| life(&cluster, pod));

    let capture = cluster.capture();
    assert_eq!(client.fetch(server.ip, 8080), secret.as_str());
    capture.stop().assert_clear_text_seen(&secret);

    let mesh = Installed::new(&cluster);
    label(kubectl, namespace.name(), "=ambient");
    wait_marked(&[&client, &server], true);
    let capture = cluster.capture();
    assert_eq!(client.fetch(server.ip, 8080), secret.as_str());
    // A pod that is born into the mesh, and whose first act is to connect.
    let born = cluster.run_pod(&namespace, "born", &nodes[0].name, &first_act(server.ip), |_| {});
    eventually(DEADLINE, "the first connection of a new pod is answered", || {
        born.attempt("cat /tmp/first").ok().filter(|text| text.contains(secret.as_str()))
    });
    let wire = capture.stop();
    wire.assert_never_in_clear(&secret);
    wire.assert_tls13();
    let seen = kubectl.run(&["-n", namespace.name(), "logs", "server"]);
    for pod in [&client, &born] {
        assert!(seen.contains(&pod.ip.to_string()), "the application sees the address of {}: {seen}", pod.name);
    }

    kubectl.apply(&json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": "strict", "namespace": namespace.name()}, "spec": {"mtls": {"mode": "STRICT"}},
    }));
    eventually(SETTLE, "who has no identity is refused", || (!ask(&stranger, &server)).then_some(()));
    assert!(ask(&client, &server), "who has one is not");
    holds_for(Duration::from_secs(4), "the kubelet, which has none, probes all the same", || {
        let status = server.object()["status"]["conditions"].to_string();
        status.contains(r#""status":"True","type":"Ready""#) && life(&cluster, &server) == lives[1]
    });

    let load = Load::start(&client, &server);
    kubectl.run(&["-n", SYSTEM, "rollout", "restart", "daemonset/sotto-node"]);
    mesh.wait_ready();
    load.wait_answered(5);
    // One that is open at the moment in which an agent ends may be cut off; those that begin meanwhile wait.
    load.stop().assert_lost_at_most(2, "while all agents were replaced");
    assert!(!ask(&stranger, &server), "STRICT outlives the agents");

    assert_eq!([&client, &server].map(|pod| life(&cluster, pod)), lives, "nothing was restarted");
    label(kubectl, namespace.name(), "-");
    wait_marked(&[&client, &server, &born], false);
    mesh.remove();
    for (node, before) in nodes.iter().zip(&before) {
        let what = format!("the CNI configuration of {} is as it was", node.name);
        eventually(SETTLE, &what, || (conf(&node.folder) == *before).then_some(()));
        let pins = node.enter("ls", &["/sys/fs/bpf/sotto"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&pins.stdout), "", "what {} has pinned", node.name);
    }
    let capture = cluster.capture();
    assert_eq!(client.fetch(server.ip, 8080), secret.as_str());
    capture.stop().assert_clear_text_seen(&secret);
    let after = cluster.run_pod(&namespace, "after", &nodes[0].name, "sleep 100000", |_| {});
    assert_eq!(after.fetch(server.ip, 8080), secret.as_str());
    assert_eq!([&client, &server].map(|pod| life(&cluster, pod)), lives, "nothing was restarted");
}

/// Names and texts of a node's CNI configurations and plugins of ours.
fn conf(folder: &Path) -> Vec<(String, Value)> {
    let mut files: Vec<_> = std::fs::read_dir(folder.join("cni-conf"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
        })
        .collect();
    files.sort_by(|one, other| one.0.cmp(&other.0));
    if folder.join("cni-bin/sotto-cni").exists() {
        files.push(("sotto-cni".to_owned(), Value::Null));
    }
    files
}
