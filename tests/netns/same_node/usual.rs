//! What connections between two pods of one node look like to those who make them.

use std::io::{ErrorKind, Read as _, Write as _};

use harness::{DEADLINE, Marker, eventually};

use super::home::{Home, direct, is_direct};

#[test]
fn pods_of_one_node_talk_without_touching_the_wire() {
    let Some(home) = Home::new("pods_of_one_node_talk_without_touching_the_wire") else { return };
    let Home { agent, client, server, mesh, .. } = &home;
    let echo = server.serve_echo(8080);

    for (to, from) in [(server.addr(8080), client.ip()), (server.addr6(8080), client.ip6())] {
        let marker = Marker::new();
        let capture = mesh.capture();
        let mut conn = client.connect(to);
        conn.exchange(&marker);
        assert_eq!(conn.peer_addr(), to);
        assert_eq!(echo.peers().last().map(|peer| peer.ip()), Some(from));

        let mut conn = direct(client, to);
        conn.exchange(&marker);
        assert_eq!(conn.peer_addr(), to);
        assert_eq!(echo.peers().last(), Some(&conn.local_addr()), "the very same connection at both ends");
        capture.stop().assert_silent();
    }
    let entry = agent.wait_access("between the pods", |entry| entry.source_identity() == client.identity());
    assert_eq!(entry.destination_identity(), server.identity());
}

#[test]
fn what_crosses_between_the_pods_has_the_real_port() {
    let Some(home) = Home::new("what_crosses_between_the_pods_has_the_real_port") else { return };
    home.server.serve_echo(8080);
    drop(home.direct(8080));
    let marker = Marker::new();
    let capture = home.server.capture();
    let mut conn = home.direct(8080);
    conn.exchange(&marker);
    // This is what a NetworkPolicy sees.
    capture.stop().assert_clear_text_seen(&marker);
    assert_eq!(conn.peer_addr().port(), 8080);
}

#[test]
fn a_port_where_nobody_listens_refuses_as_without_the_mesh() {
    let Some(home) = Home::new("a_port_where_nobody_listens_refuses_as_without_the_mesh") else { return };
    for to in [home.server.addr(8080), home.server.addr6(8080)] {
        eventually(DEADLINE, "connect() itself is refused", || {
            // Those that the agent relays are accepted first and reset then.
            let error = home.client.try_connect(to, DEADLINE).err()?;
            (error.kind() == ErrorKind::ConnectionRefused).then_some(())
        });
    }
    home.server.serve_echo(8080);
    home.direct(8080).exchange("and when somebody does");
}

#[test]
fn much_is_carried_and_half_closed() {
    let Some(home) = Home::new("much_is_carried_and_half_closed") else { return };
    home.server.serve_sink(8080);
    const LENGTH: usize = 64 << 20;
    let mut conn = home.direct(8080);
    let chunk = vec![0x5a; 1 << 20];
    (0..LENGTH / chunk.len()).for_each(|_| conn.send(&chunk));
    conn.half_close();
    assert_eq!(conn.receive_to_end(), LENGTH.to_string().as_bytes());
}

#[test]
fn a_reset_arrives_as_one() {
    let Some(home) = Home::new("a_reset_arrives_as_one") else { return };
    let (tell, told) = std::sync::mpsc::channel();
    home.server.serve(8080, move |conn| {
        let mut byte = [0];
        let mut stream = conn.stream();
        if stream.read_exact(&mut byte).is_err() || byte == *b"r" {
            return conn.reset();
        }
        let _ = tell.send(stream.read(&mut byte).map_err(|error| error.kind()));
    });
    let mut conn = home.direct(8080);
    conn.send("r");
    conn.expect_reset();
    let mut conn = home.direct(8080);
    conn.send("x");
    conn.reset();
    let seen = eventually(DEADLINE, "the server sees the end of the client", || told.try_recv().ok());
    assert_eq!(seen, Err(ErrorKind::ConnectionReset));
}

#[test]
fn source_ports_may_be_the_same_for_two_servers_and_again() {
    let Some(home) = Home::new("source_ports_may_be_the_same_for_two_servers_and_again") else { return };
    let other = home.node.pod("other").start();
    home.mesh.wait_enrolled(&[&other]);
    home.server.serve_echo(8080);
    other.serve_echo(8080);
    drop((home.direct(8080), direct(&home.client, other.addr(8080))));
    let from = |to: std::net::SocketAddr| {
        home.client.netns().run(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.bind(&std::net::SocketAddr::new(home.client.ip(), 43_210).into()).unwrap();
            socket.connect_timeout(&to.into(), DEADLINE).unwrap();
            std::net::TcpStream::from(socket)
        })
    };
    for _ in 0..3 {
        let streams = [home.server.addr(8080), other.addr(8080)].map(from);
        for mut stream in &streams {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(b"one of two").unwrap();
            let mut answer = [0; 10];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"one of two");
        }
        // A reset leaves no TIME-WAIT: the same four numbers come again at once.
        for stream in streams {
            socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
    }
}

#[test]
fn where_the_switch_says_so_the_agent_relays() {
    let Some(home) = Home::with_argument("where_the_switch_says_so_the_agent_relays", Some(("--same-node", "relay")))
    else {
        return;
    };
    home.server.serve_echo(8080);
    for _ in 0..20 {
        let mut conn = home.client.connect(home.server.addr(8080));
        conn.exchange("through the agent");
        assert!(!is_direct(&home.client, &conn));
    }
    assert_eq!(home.agent.metrics().sum("sotto_redirect_events_total", &[("event", "direct")]), 0.0);
}
