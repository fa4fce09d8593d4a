//! Pods join and leave while they run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use harness::{Conn, Marker, Mesh};

use crate::fixture::Pair;

/// Exchanges numbered lines on one connection until told to stop; returns how many.
fn keep_talking(mut conn: Conn) -> (Arc<AtomicBool>, thread::JoinHandle<u32>) {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let talking = thread::spawn(move || {
        let mut count = 0;
        while !told.load(Ordering::SeqCst) {
            conn.exchange(format!("line {count}\n"));
            count += 1;
        }
        conn.half_close();
        conn.expect_eof();
        count
    });
    (stop, talking)
}

#[test]
fn connections_stay_open_across_joining_and_leaving() {
    let Some(pair) = Pair::plain("connections_stay_open_across_joining_and_leaving") else { return };
    let echo = pair.server.serve_echo(8080);
    let before = keep_talking(pair.client.connect(pair.server.addr(8080)));
    pair.enrol();
    let during = keep_talking(pair.client.connect(pair.server.addr(8080)));
    pair.leave();
    pair.client.connect(pair.server.addr(8080)).exchange("after");
    assert_eq!(echo.peers().len(), 3, "no connection was made anew");

    for (stop, talking) in [before, during] {
        stop.store(true, Ordering::SeqCst);
        let lines = talking.join().expect("the connection lost no line");
        assert!(lines > 0);
    }
}

#[test]
fn joining_and_leaving_changes_what_the_wire_shows() {
    let Some(pair) = Pair::plain("joining_and_leaving_changes_what_the_wire_shows") else { return };
    pair.server.serve_echo(8080);
    for _ in 0..3 {
        let (clear, secret) = (Marker::new(), Marker::new());
        let capture = pair.mesh.capture();
        pair.client.connect(pair.server.addr(8080)).exchange(&clear);
        capture.stop().assert_clear_text_seen(&clear);
        pair.enrol();
        let capture = pair.mesh.capture();
        pair.client.connect(pair.server.addr(8080)).exchange(&secret);
        let wire = capture.stop();
        wire.assert_never_in_clear(&secret);
        wire.assert_only_tls();
        pair.leave();
    }
}

#[test]
fn the_pods_label_wins_over_its_namespaces() {
    let Some(pair) = Pair::enrolled("the_pods_label_wins_over_its_namespaces") else { return };
    pair.client.opt_out();
    pair.mesh.wait_left(&[&pair.client]);
    assert_eq!(pair.agent_a.enrolled(&pair.server), Some(true));

    let alone = pair.a.pod("alone").namespace("elsewhere").label("istio.io/dataplane-mode", "ambient").start();
    pair.mesh.wait_enrolled(&[&alone]);
    pair.server.serve_echo(8080);
    let secret = Marker::new();
    let capture = pair.mesh.capture();
    alone.connect(pair.server.addr(8080)).exchange(&secret);
    let wire = capture.stop();
    wire.assert_never_in_clear(&secret);
    wire.assert_tls13();
}

#[test]
fn some_pods_never_join() {
    let Some(mesh) = Mesh::new("some_pods_never_join") else { return };
    let node = mesh.node("a");
    for namespace in ["demo", "kube-system", "kube-public", "kube-node-lease"] {
        mesh.namespace(namespace).enrol();
    }
    let never = [
        node.pod("host").host_network().start(),
        node.pod("sidecar").annotation("sidecar.istio.io/status", "{}").start(),
        node.pod("none").label("istio.io/dataplane-mode", "none").start(),
        node.pod("dns").namespace("kube-system").start(),
        node.pod("dns").namespace("kube-public").label("istio.io/dataplane-mode", "ambient").start(),
        node.pod("dns").namespace("kube-node-lease").start(),
    ];
    let joins = node.pod("ordinary").start();
    let _agent = node.start_agent();
    mesh.wait_enrolled(&[&joins]);
    mesh.wait_left(&never.each_ref());
}

#[test]
fn a_new_pod_joins_with_its_namespace_and_a_deleted_one_is_forgotten() {
    let Some(pair) = Pair::enrolled("a_new_pod_joins_with_its_namespace_and_a_deleted_one_is_forgotten") else {
        return;
    };
    pair.server.serve_echo(8080);
    let late = pair.a.pod("late").start();
    pair.mesh.wait_enrolled(&[&late]);
    let secret = Marker::new();
    let capture = pair.mesh.capture();
    late.connect(pair.server.addr(8080)).exchange(&secret);
    capture.stop().assert_tls13();

    late.delete_manifest();
    harness::eventually(harness::DEADLINE, "both agents forget the pod", || {
        let forgotten = [&pair.agent_a, &pair.agent_b].iter().all(|agent| agent.enrolled(&late).is_none());
        forgotten.then_some(())
    });
}
