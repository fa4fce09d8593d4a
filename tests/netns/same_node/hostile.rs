//! Those who would like a verdict that is not theirs.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use harness::{DEADLINE, Marker, Pod, eventually};
use serde_json::json;
use socket2::{Domain, Socket, Type};

use super::home::{Home, is_direct};

/// Only the client may speak to the server, and it does so directly.
fn guarded(test: &str) -> Option<Home> {
    let home = Home::new(test)?;
    home.server.serve_echo(8080);
    let principal = home.client.identity().replace("spiffe://", "");
    let policy = home.mesh.authorization_policy("only-client").action("ALLOW");
    let _stays = policy.rules(json!([{"from": [{"source": {"principals": [principal]}}]}])).create();
    home.direct(8080).exchange("the client may");
    Some(home)
}

/// Connects from an address and a port of the caller's choice.
fn from(pod: &Pod, source: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    pod.netns().run(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_freebind_v4(true)?;
        socket.bind(&source.into())?;
        socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(stream)
    })
}

fn gets_through(stream: std::io::Result<TcpStream>) -> bool {
    let Ok(mut stream) = stream else { return false };
    let mut answer = [0; 4];
    stream.write_all(b"hey!").and_then(|()| stream.read_exact(&mut answer)).is_ok()
}

#[test]
fn a_neighbour_cannot_use_the_clients_verdict() {
    let Some(home) = guarded("a_neighbour_cannot_use_the_clients_verdict") else { return };
    let (member, stranger) =
        (home.node.pod("member").start(), home.node.pod("stranger").namespace("elsewhere").start());
    home.mesh.wait_enrolled(&[&member]);
    let to = home.server.addr(8080);
    let open = home.direct(8080);
    eventually(DEADLINE, "the policy keeps others out", || {
        (!gets_through(from(&member, member.addr(0), to))).then_some(())
    });
    for pod in [&member, &stranger] {
        // As itself, as the client, and as the client's very connection.
        pod.netns().ip(&format!("addr add {}/32 dev lo", home.client.ip()));
        for source in [pod.addr(0), home.client.addr(0), open.local_addr()] {
            assert!(!gets_through(from(pod, source, to)), "{pod} as {source}");
        }
    }
    // The node itself.
    let node = home.node.netns().run(|| TcpStream::connect_timeout(&to, Duration::from_secs(2)));
    if let Ok(stream) = &node {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
    }
    assert!(!gets_through(node), "a process of the node");
    assert!(is_direct(&home.client, &open));
}

#[test]
fn a_client_that_speaks_from_another_address_is_relayed() {
    let Some(home) = guarded("a_client_that_speaks_from_another_address_is_relayed") else { return };
    home.client.netns().ip("addr add 10.99.99.99/32 dev lo");
    let to = home.server.addr(8080);
    let captured = || home.agent.metrics().sum("sotto_redirect_events_total", &[("event", "captured")]);
    let before = captured();
    let _stream = from(&home.client, "10.99.99.99:0".parse().unwrap(), to);
    eventually(DEADLINE, "it was handed to the agent", || (captured() > before).then_some(()));
    home.direct(8080).exchange("as itself it goes directly");
}

#[test]
fn nothing_is_said_to_somebody_else_who_has_the_servers_address() {
    let Some(home) = Home::new("nothing_is_said_to_somebody_else_who_has_the_servers_address") else { return };
    home.server.serve_echo(8080);
    home.direct(8080).exchange("the server is here");
    // The address moves before anybody has told the agent: another machine answers.
    let impostor = home.node.pod("impostor").namespace("elsewhere").start();
    let heard = impostor.serve_sink(8080);
    impostor.netns().ip(&format!("addr add {}/32 dev lo", home.server.ip()));
    let link = |pod: &Pod| match pod.ip() {
        std::net::IpAddr::V4(v4) => format!("pod{}", v4.octets()[3]),
        std::net::IpAddr::V6(_) => unreachable!("the first address is IPv4"),
    };
    home.node.netns().ip(&format!("route replace {} dev {}", home.server.ip(), link(&impostor)));
    let secret = Marker::new();
    let capture = impostor.capture();
    let stray = home.client.try_connect(home.server.addr(8080), DEADLINE);
    if let Ok(conn) = stray {
        let conn = conn.with_deadline(DEADLINE);
        let mut stream = conn.stream();
        let _ = stream.write_all(secret.as_str().as_bytes());
        let mut byte = [0];
        assert!(stream.read_exact(&mut byte).is_err(), "nobody answers");
    }
    assert!(capture.stop().find(&secret).is_empty(), "the secret has left the pod");
    assert!(heard.peers().is_empty(), "not even the handshake came to its end");
    let strayed = || home.agent.metrics().sum("sotto_redirect_events_total", &[("event", "direct_strayed")]);
    eventually(DEADLINE, "it is counted", || (strayed() >= 1.0).then_some(()));
    home.node.netns().ip(&format!("route replace {} dev {}", home.server.ip(), link(&home.server)));
    // From then on the agent relays, for a while.
    let mut conn = home.client.connect(home.server.addr(8080));
    conn.exchange("the server is here again");
    assert!(!is_direct(&home.client, &conn));
}
