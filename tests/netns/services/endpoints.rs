//! Kubernetes Services: from the address that clients use to the pods behind it.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use harness::{DEADLINE, Marker, Pod, Site, eventually};

use crate::fixture::{Pair, assert_fails};

/// Serves the pod's own name on port 8080.
fn serve_name(pod: &Pod) {
    let name = pod.name();
    pod.serve_http(8080, move |_| name.clone());
}

/// Who answers a request.
fn ask(client: &Site, address: SocketAddr) -> String {
    let answer = client.http_get(address, "/");
    answer.split("\r\n\r\n").last().unwrap_or_default().to_owned()
}

/// Adds two web pods on node b, labelled `role=web`, and waits until they have joined.
fn web_pods(pair: &Pair) -> [Pod; 2] {
    let pods = ["web-1", "web-2"].map(|name| pair.b.pod(name).label("role", "web").port("http", 8080).start());
    pods.iter().for_each(serve_name);
    pair.mesh.wait_enrolled(&pods.each_ref());
    pods
}

#[track_caller]
fn eventually_answers(pair: &Pair, address: SocketAddr, expected: &str) {
    eventually(DEADLINE, &format!("{expected} answers at {address}"), || {
        let conn = pair.client.try_connect(address, DEADLINE).ok()?;
        // Until the agent knows the service, the connection fails in one way or another.
        conn.stream().write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        conn.stream().read_to_string(&mut answer).ok()?;
        answer.ends_with(expected).then_some(())
    });
}

#[test]
fn a_cluster_ip_leads_to_the_target_port_of_its_pods() {
    let Some(pair) = Pair::enrolled("a_cluster_ip_leads_to_the_target_port_of_its_pods") else { return };
    let web = pair.mesh.service("web").port(80, 8080).selector("app", "server").create();
    let echo = pair.server.serve_echo(8080);
    pair.agent_a.wait_service(&web);
    for (to, from) in [(web.addr(80), pair.client.ip()), (web.addr6(80), pair.client.ip6())] {
        let secret = Marker::new();
        let capture = pair.mesh.capture();
        let mut conn = pair.client.connect(to);
        conn.exchange(&secret);
        assert_eq!(conn.peer_addr(), to, "the client sees the service's address");
        assert_eq!(echo.peers().last().map(|peer| peer.ip()), Some(from));
        let wire = capture.stop();
        wire.assert_never_in_clear(&secret);
        wire.assert_tls13();
    }
    let entry = pair.agent_a.wait_access("to the service", |entry| !entry.field("dst.service").is_empty());
    assert_eq!(entry.field("dst.service"), web.hostname());
}

#[test]
fn a_target_port_may_be_a_name_that_each_pod_gives_to_another_port() {
    let Some(pair) = Pair::enrolled("a_target_port_may_be_a_name_that_each_pod_gives_to_another_port") else { return };
    let old = pair.b.pod("old").label("role", "web").port("http", 8080).start();
    let new = pair.b.pod("new").label("role", "web").port("http", 9090).start();
    old.serve_http(8080, |_| "old".into());
    new.serve_http(9090, |_| "new".into());
    pair.mesh.wait_enrolled(&[&old, &new]);
    let web = pair.mesh.service("web").port_to_name(80, "http").selector("role", "web").create();
    for name in ["old", "new"] {
        eventually_answers(&pair, web.addr(80), name);
    }
}

#[test]
fn connections_spread_over_the_endpoints() {
    let Some(pair) = Pair::enrolled("connections_spread_over_the_endpoints") else { return };
    let _pods = web_pods(&pair);
    let web = pair.mesh.service("web").port(80, 8080).selector("role", "web").create();
    pair.agent_a.wait_service(&web);
    let first = (0..60).filter(|_| ask(&pair.client, web.addr(80)) == "web-1").count();
    // Outside of this once in 300,000 runs if each connection chooses for itself.
    assert!((12..=48).contains(&first), "{first} of 60 went to the first of two");
}

#[test]
fn pods_that_are_not_ready_get_no_connections() {
    let Some(pair) = Pair::enrolled("pods_that_are_not_ready_get_no_connections") else { return };
    let [one, two] = web_pods(&pair);
    let sick = pair.b.pod("sick").label("role", "web").unready().start();
    serve_name(&sick);
    pair.mesh.wait_enrolled(&[&sick]);
    let web = pair.mesh.service("web").port(80, 8080).selector("role", "web").create();
    pair.agent_a.wait_service(&web);
    assert!((0..30).all(|_| ask(&pair.client, web.addr(80)) != "sick"));

    one.set_ready(false);
    two.set_ready(false);
    sick.set_ready(true);
    eventually_answers(&pair, web.addr(80), "sick");
    eventually(DEADLINE, "only the ready pod answers", || {
        (0..10).all(|_| ask(&pair.client, web.addr(80)) == "sick").then_some(())
    });
}

#[test]
fn endpoint_slices_are_followed() {
    let Some(pair) = Pair::enrolled("endpoint_slices_are_followed") else { return };
    let [one, two] = web_pods(&pair);
    let web = pair.mesh.service("web").port(80, 8080).endpoint(one.ip(), true).endpoint(two.ip(), false).create();
    pair.agent_a.wait_service(&web);
    assert!((0..10).all(|_| ask(&pair.client, web.addr(80)) == "web-1"));
    web.set_endpoints(&[(two.ip(), true)]);
    eventually_answers(&pair, web.addr(80), "web-2");
    assert!((0..10).all(|_| ask(&pair.client, web.addr(80)) == "web-2"));
}

#[test]
fn a_headless_service_is_reached_by_its_pods_addresses() {
    let Some(pair) = Pair::enrolled("a_headless_service_is_reached_by_its_pods_addresses") else { return };
    let [one, two] = web_pods(&pair);
    let web = pair.mesh.service("web").headless().port(8080, 8080).selector("role", "web").create();
    pair.agent_a.wait_service(&web);
    let capture = pair.mesh.capture();
    assert_eq!(ask(&pair.client, one.addr(8080)), "web-1");
    assert_eq!(ask(&pair.client, two.addr(8080)), "web-2");
    capture.stop().assert_tls13();
    let entry = pair.agent_a.wait_access("to the headless service", |entry| !entry.field("dst.service").is_empty());
    assert_eq!(entry.field("dst.service"), web.hostname());
}

#[test]
fn a_service_that_cannot_serve_fails_like_a_closed_port() {
    let Some(pair) = Pair::enrolled("a_service_that_cannot_serve_fails_like_a_closed_port") else { return };
    let empty = pair.mesh.service("empty").port(80, 8080).selector("role", "nobody").create();
    pair.agent_a.wait_service(&empty);
    assert_fails(&pair.client, empty.addr(80), Duration::from_secs(5));
    assert_fails(&pair.client, empty.addr(81), Duration::from_secs(5));
}
