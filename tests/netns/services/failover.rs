//! Endpoints that do not work are replaced before the client notices.

use std::thread;
use std::time::Duration;

use harness::{Pod, Service};

use crate::fixture::{Pair, assert_fails};

/// Longer than the agent waits for all endpoints of a service together.
const PATIENCE: Duration = Duration::from_secs(30);

/// Enough to hear a refusal and ask another, not enough to wait for one that is silent.
const PROMPT: Duration = Duration::from_secs(4);

/// Connects many times, at once, and expects to be served each time.
fn check_all_served(client: &Pod, service: &Service, within: Duration) {
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let conn = client.try_connect(service.addr(80), within).expect("the connection is accepted");
                conn.with_deadline(within).exchange("hello");
            });
        }
    });
}

#[test]
fn an_enrolled_pod_that_refuses_is_replaced() {
    let Some(pair) = Pair::enrolled("an_enrolled_pod_that_refuses_is_replaced") else { return };
    pair.server.serve_echo(8080);
    let idle = pair.b.pod("idle").start();
    pair.mesh.wait_enrolled(&[&idle]);
    let web = pair.mesh.service("web").port(80, 8080).pods(&[&idle, &pair.server]).create();
    pair.agent_a.wait_service(&web);
    check_all_served(&pair.client, &web, PROMPT);
}

#[test]
fn a_pod_outside_the_mesh_that_refuses_is_replaced() {
    let Some(pair) = Pair::enrolled("a_pod_outside_the_mesh_that_refuses_is_replaced") else { return };
    pair.server.serve_echo(8080);
    let idle = pair.b.pod("idle").namespace("elsewhere").start();
    let web = pair.mesh.service("web").port(80, 8080).pods(&[&idle, &pair.server]).create();
    pair.agent_a.wait_service(&web);
    check_all_served(&pair.client, &web, PROMPT);
}

#[test]
fn addresses_that_are_unreachable_or_silent_are_replaced() {
    let Some(pair) = Pair::enrolled("addresses_that_are_unreachable_or_silent_are_replaced") else { return };
    pair.server.serve_echo(8080);
    let (hole, unused) = (pair.b.black_hole(), pair.b.unused_address());
    let web = pair.mesh.service("web").port(80, 8080).endpoint(hole, true).endpoint(unused, true);
    let web = web.endpoint(pair.server.ip(), true).create();
    pair.agent_a.wait_service(&web);
    check_all_served(&pair.client, &web, PATIENCE);
}

#[test]
fn an_enrolled_pod_that_is_silent_is_replaced() {
    let Some(pair) = Pair::enrolled("an_enrolled_pod_that_is_silent_is_replaced") else { return };
    pair.server.serve_echo(8080);
    // A pod whose node has gone without a word: the manifests still name it, its address takes packets and never answers.
    let hole = pair.b.black_hole();
    pair.mesh.write_manifest(
        "pod-demo-gone.yaml",
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: gone, namespace: demo, uid: gone}}\n\
             spec: {{nodeName: gone, serviceAccountName: gone}}\n\
             status: {{phase: Running, podIP: {hole}, podIPs: [{{ip: {hole}}}]}}\n"
        ),
    );
    let web = pair.mesh.service("web").port(80, 8080).endpoint(hole, true).endpoint(pair.server.ip(), true).create();
    pair.agent_a.wait_service(&web);
    check_all_served(&pair.client, &web, PATIENCE);
}

#[test]
fn when_all_refuse_the_client_is_refused() {
    let Some(pair) = Pair::enrolled("when_all_refuse_the_client_is_refused") else { return };
    let idle = pair.b.pod("idle").start();
    pair.mesh.wait_enrolled(&[&idle]);
    let web = pair.mesh.service("web").port(80, 8080).pods(&[&idle, &pair.server]).create();
    pair.agent_a.wait_service(&web);
    assert_fails(&pair.client, web.addr(80), PROMPT);
}
