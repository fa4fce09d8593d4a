//! Traffic with those who do not belong to the mesh.

use harness::Marker;

use crate::fixture::Pair;

#[test]
fn a_pod_outside_the_mesh_reaches_one_inside() {
    let Some(pair) = Pair::enrolled("a_pod_outside_the_mesh_reaches_one_inside") else { return };
    let stranger = pair.a.pod("stranger").namespace("elsewhere").start();
    let echo = pair.server.serve_echo(8080);
    for (to, from) in [(pair.server.addr(8080), stranger.ip()), (pair.server.addr6(8080), stranger.ip6())] {
        let marker = Marker::new();
        let capture = pair.mesh.capture();
        let mut conn = stranger.connect(to);
        conn.exchange(&marker);
        assert_eq!(conn.peer_addr(), to);
        assert_eq!(echo.peers().last().map(|peer| peer.ip()), Some(from));
        capture.stop().assert_clear_text_seen(&marker);
    }
}

#[test]
fn a_pod_inside_the_mesh_reaches_one_outside() {
    let Some(pair) = Pair::enrolled("a_pod_inside_the_mesh_reaches_one_outside") else { return };
    let stranger = pair.b.pod("stranger").namespace("elsewhere").start();
    let echo = stranger.serve_echo(8080);
    let mut conn = pair.client.connect(stranger.addr(8080));
    conn.exchange("hello");
    assert_eq!(conn.peer_addr(), stranger.addr(8080));
    assert_eq!(echo.peers()[0].ip(), pair.client.ip());
}

#[test]
fn a_machine_that_nobody_knows_of_is_reached_as_before() {
    let Some(pair) = Pair::enrolled("a_machine_that_nobody_knows_of_is_reached_as_before") else { return };
    let outside = pair.mesh.external("outside");
    let echo = outside.serve_echo(443);
    for (to, from) in [(outside.addr(443), pair.client.ip()), (outside.addr6(443), pair.client.ip6())] {
        let mut conn = pair.client.connect(to);
        conn.exchange("hello");
        assert_eq!(conn.peer_addr(), to);
        assert_eq!(echo.peers().last().map(|peer| peer.ip()), Some(from));
    }
    pair.agent_a.wait_access("to the outside", |entry| entry.field("dst.addr") == outside.addr(443).to_string());
}

#[test]
fn machines_and_nodes_outside_reach_a_pod_inside() {
    let Some(pair) = Pair::enrolled("machines_and_nodes_outside_reach_a_pod_inside") else { return };
    let outside = pair.mesh.external("outside");
    pair.server.serve_http(8080, |peer| peer.ip().to_string());
    assert!(outside.http_get(pair.server.addr(8080), "/").ends_with(&outside.ip().to_string()));
    assert!(outside.http_get(pair.server.addr6(8080), "/").ends_with(&outside.ip6().to_string()));
    // As the kubelet's probes do.
    assert!(pair.b.http_get(pair.server.addr(8080), "/").ends_with("10.201.2.1"));
}

/// The agent speaks to the application from the client's address, on a port that is not its to choose alone.
#[test]
fn ports_that_a_client_used_before_it_joined_are_in_nobodys_way() {
    const PORTS: &str = "net/ipv4/ip_local_port_range";
    let Some(pair) = Pair::plain("ports_that_a_client_used_before_it_joined_are_in_nobodys_way") else { return };
    let echo = pair.server.serve_echo(8080);
    // Few ports in either namespace, so that what is rare among tens of thousands is not.
    let usual = pair.client.netns().read_sysctl(PORTS);
    for pod in [&pair.client, &pair.server] {
        pod.netns().sysctl(PORTS, "40000 40127");
    }
    let mut before: Vec<_> = (0..16).map(|_| pair.client.connect(pair.server.addr(8080))).collect();
    pair.client.netns().sysctl(PORTS, usual.trim());
    pair.enrol();
    for _ in 0..12 {
        pair.client.connect(pair.server.addr(8080)).exchange("hello");
        assert_eq!(echo.peers().last().map(|peer| peer.ip()), Some(pair.client.ip()));
    }
    before.iter_mut().for_each(|conn| conn.exchange("still here"));
}
