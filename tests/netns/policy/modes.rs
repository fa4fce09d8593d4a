//! STRICT and PERMISSIVE, pods of one node, and policies that are wrong.

use harness::{Conn, DEADLINE, Mesh, eventually};
use serde_json::json;

use super::attempts::{open, source, try_exchange, wait_reached, wait_refused, wait_told};
use crate::fixture::Pair;

#[test]
fn strict_takes_tunnels_and_refuses_clear_text() {
    let Some(pair) = Pair::enrolled("strict_takes_tunnels_and_refuses_clear_text") else { return };
    let stranger = pair.a.pod("stranger").namespace("elsewhere").start();
    pair.server.serve_echo(8080);
    pair.server.serve_echo(9090);
    let [v4, v6, open] = [pair.server.addr(8080), pair.server.addr6(8080), pair.server.addr(9090)];
    wait_reached(&stranger, v4);

    let mesh_wide = pair.mesh.peer_authentication("strict").namespace("istio-system").mode("STRICT").create();
    wait_refused(&stranger, v4);
    wait_refused(&stranger, v6);
    let capture = pair.mesh.capture();
    pair.client.connect(v4).exchange("hello");
    pair.client.connect(v6).exchange("hello");
    capture.stop().assert_tls13();
    wait_told(&pair.agent_b, &stranger, "istio-system/strict", "strict_mtls");
    // The first attempts may have been let in just before the policy came, and closed by it; these are refused.
    for to in [v4, v6] {
        wait_refused(&stranger, to);
    }
    let labels = [("reporter", "destination"), ("response_flags", "DENY"), ("destination_workload", "server")];
    let refused = || pair.agent_b.metrics().sum("istio_tcp_connections_failed_total", &labels);
    eventually(DEADLINE, "both refusals are counted", || (refused() >= 2.0).then_some(()));

    pair.server.label("app", "server");
    let exception = pair.mesh.peer_authentication("one-port").selecting("app", "server");
    let _exception = exception.mode("UNSET").port_mode(9090, "PERMISSIVE").create();
    wait_reached(&stranger, open);
    wait_refused(&stranger, v4);
    mesh_wide.delete();
    wait_reached(&stranger, v4);
}

#[test]
fn pods_of_one_node_are_kept_apart_too() {
    let Some(mesh) = Mesh::new("pods_of_one_node_are_kept_apart_too") else { return };
    let node = mesh.node("a");
    let [client, other, server] = ["client", "other", "server"].map(|name| node.pod(name).start());
    mesh.namespace("demo").enrol();
    let agent = node.start_agent();
    mesh.wait_enrolled(&[&client, &other, &server]);
    server.serve_echo(8080);
    let to = server.addr(8080);
    // The agent knows both of them: STRICT is met without a tunnel.
    let _strict = mesh.peer_authentication("strict").mode("STRICT").create();
    let mut forbidden = open(&client, to, 2);
    let mut kept = open(&other, to, 2);

    let principal = client.identity().replace("spiffe://", "");
    let policy =
        mesh.authorization_policy("no-client").action("DENY").rules(source(json!({"principals": [principal]})));
    let policy = policy.create();
    forbidden.iter_mut().for_each(Conn::expect_reset);
    kept.iter_mut().for_each(|conn| conn.exchange("still here"));
    wait_refused(&client, to);
    wait_refused(&client, server.addr6(8080));
    wait_told(&agent, &client, &policy.name(), "deny_rule");
    try_exchange(&other, to).unwrap();
}

#[test]
fn a_wrong_policy_keeps_the_last_good_one_or_fails_closed() {
    let Some(pair) = Pair::enrolled("a_wrong_policy_keeps_the_last_good_one_or_fails_closed") else { return };
    let other = pair.a.pod("other").start();
    pair.mesh.wait_enrolled(&[&other]);
    pair.server.serve_echo(8080);
    let to = pair.server.addr(8080);
    let principal = pair.client.identity().replace("spiffe://", "");
    let mut policy = pair.mesh.authorization_policy("only-client");
    policy = policy.rules(source(json!({"principals": [principal]})));
    let mut policy = policy.create();
    wait_refused(&other, to);

    policy.change("ALLOW", source(json!({"principal": [principal]})));
    pair.agent_b.wait_log("object, field and fix", |text| {
        let told =
            ["demo/only-client", "spec.rules[0].from[0].source.principal", "known are principals", "keeps serving"];
        told.iter().all(|part| text.contains(part))
    });
    try_exchange(&pair.client, to).unwrap();
    wait_refused(&other, to);
    policy.change("ALLOW", json!([{}]));
    wait_reached(&other, to);

    let new = pair.mesh.authorization_policy("new").action("DENY");
    let new = new.rules(source(json!({"ipBlocks": ["10.0.0.0/99"]}))).create();
    wait_refused(&pair.client, to);
    wait_told(&pair.agent_b, &pair.client, "demo/new", "invalid_policy");
    new.delete();
    wait_reached(&pair.client, to);
}
