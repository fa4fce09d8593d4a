//! Two enrolled pods on one node.

use harness::{Marker, Mesh};

#[test]
fn pods_of_one_node_talk_without_touching_the_wire() {
    let Some(mesh) = Mesh::new("pods_of_one_node_talk_without_touching_the_wire") else { return };
    let node = mesh.node("a");
    let (client, server) = (node.pod("client").start(), node.pod("server").start());
    mesh.namespace("demo").enrol();
    let agent = node.start_agent();
    mesh.wait_enrolled(&[&client, &server]);
    let echo = server.serve_echo(8080);

    for (to, from) in [(server.addr(8080), client.ip()), (server.addr6(8080), client.ip6())] {
        let marker = Marker::new();
        let capture = mesh.capture();
        let mut conn = client.connect(to);
        conn.exchange(&marker);
        assert_eq!(conn.peer_addr(), to);
        assert_eq!(echo.peers().last().map(|peer| peer.ip()), Some(from));
        capture.stop().assert_silent();
    }
    let entry = agent.wait_access("between the pods", |entry| entry.source_identity() == client.identity());
    assert_eq!(entry.destination_identity(), server.identity());
}
