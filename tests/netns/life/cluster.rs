//! `sotto node`: pods of an API server, found by their processes, joined by their namespace's label.

use std::thread;
use std::time::Duration;

use harness::{BareCluster, DEADLINE, Marker, Mesh, Pod, eventually, holds_for};

const ANNOTATION: &str = "ambient.istio.io/redirection";

/// Waits until the annotation of a pod is (not) there.
#[track_caller]
fn wait_marked(cluster: &BareCluster, pod: &Pod, marked: bool) {
    eventually(DEADLINE * 2, &format!("the annotation of {pod} says {marked}"), || {
        let value = cluster.get_pod(pod)["metadata"]["annotations"][ANNOTATION].clone();
        (value == if marked { "enabled".into() } else { serde_json::Value::Null }).then_some(())
    });
}

#[test]
fn pods_join_by_their_namespaces_label_and_stay_captured_while_the_agent_is_replaced() {
    let Some(mesh) = Mesh::new("pods_join_by_their_namespaces_label") else { return };
    let Some(cluster) = mesh.cluster("pods_join_by_their_namespaces_label") else { return };
    let (a, b) = (mesh.node("a"), mesh.node("b"));
    let (client, server) = (a.pod("client").start(), b.pod("server").start());
    cluster.add_namespace("demo");
    for node in [&a, &b] {
        cluster.add_node(node);
    }
    for pod in [&client, &server] {
        cluster.add_pod(pod);
    }
    let agent_a = cluster.agent(&a).start();
    let agent_b = cluster.agent(&b).start();
    let echo = server.serve_echo(8080);
    client.connect(server.addr(8080)).exchange("before");

    cluster.label_namespace("demo", true);
    mesh.wait_enrolled(&[&client, &server]);
    let secret = Marker::new();
    let capture = mesh.capture();
    let mut kept = client.connect(server.addr(8080));
    kept.exchange(&secret);
    let wire = capture.stop();
    wire.assert_never_in_clear(&secret);
    wire.assert_tls13();
    assert_eq!(echo.peers().last().unwrap().ip(), client.ip(), "the server sees the client's own address");
    wait_marked(&cluster, &client, true);
    wait_marked(&cluster, &server, true);

    // A rolling update: the old agent ends, the new one comes. What is dialled in between waits.
    let secret = Marker::new();
    let capture = mesh.capture();
    assert!(agent_a.terminate().success(), "{}", agent_a.log());
    let (dialling, address, text) = (client.clone(), server.addr(8080), secret.clone());
    let waiting = thread::spawn(move || dialling.connect(address).with_deadline(DEADLINE * 3).exchange(&text));
    holds_for(Duration::from_millis(500), "nothing is connected without an agent", || !waiting.is_finished());
    let agent_a = cluster.agent(&a).start();
    waiting.join().unwrap();
    capture.stop().assert_never_in_clear(&secret);
    wait_marked(&cluster, &client, true);

    cluster.label_namespace("demo", false);
    mesh.wait_left(&[&client, &server]);
    wait_marked(&cluster, &client, false);
    wait_marked(&cluster, &server, false);
    let clear = Marker::new();
    let capture = mesh.capture();
    client.connect(server.addr(8080)).exchange(&clear);
    capture.stop().assert_clear_text_seen(&clear);
    assert!(agent_a.is_running() && agent_b.is_running());
}

#[test]
fn a_pod_that_cannot_be_found_is_reported_and_found_when_it_is_there() {
    let Some(mesh) = Mesh::new("a_pod_that_cannot_be_found") else { return };
    let Some(cluster) = mesh.cluster("a_pod_that_cannot_be_found") else { return };
    let a = mesh.node("a");
    let (late, split) = (a.pod("late").start(), a.pod("split").start());
    let elsewhere = a.pod("elsewhere").start();
    cluster.add_namespace("demo");
    cluster.add_node(&a);
    let uid = cluster.add_object(&late);
    let split_uid = cluster.add_pod(&split);
    // Somebody's process in another namespace: it cannot be told which one is the pod's.
    cluster.start_container(&elsewhere, &split_uid, "intruder");
    cluster.label_namespace("demo", true);
    let agent = cluster.agent(&a).start();
    let events = || cluster.server().get("/api/v1/namespaces/demo/events")["items"].clone();
    let said = |pod: &str, word: &str| {
        let events = events();
        let mut events = events.as_array().into_iter().flatten();
        events.any(|event| {
            event["involvedObject"]["name"] == pod && event["message"].as_str().is_some_and(|text| text.contains(word))
        })
    };
    eventually(DEADLINE * 2, "Events tell of both", || {
        (said("late", "no process of the pod") && said("split", "different network namespaces")).then_some(())
    });
    cluster.start_container(&late, &uid, "sandbox");
    mesh.wait_enrolled(&[&late]);
    wait_marked(&cluster, &late, true);
    assert_eq!(agent.enrolled(&split), None, "a pod that is not told apart is not carried");
    assert!(cluster.get_pod(&split)["metadata"]["annotations"][ANNOTATION].is_null());
}
