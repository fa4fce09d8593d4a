//! What an enrolled pod's traffic looks like: to the applications as always, on the wire as TLS.

use std::io::Write as _;
use std::net::SocketAddr;
use std::thread;

use harness::{Conn, Marker};

use crate::fixture::Pair;

/// The promise of the mesh: the application notices nothing, and whoever reads the wire learns nothing.
fn check_promise(pair: &Pair, to: SocketAddr, from: std::net::IpAddr) {
    let echo = pair.server.serve_echo(to.port());

    // The control: the same request before enrolment shows that the capture would see a leak.
    let (clear, secret) = (Marker::new(), Marker::new());
    let capture = pair.mesh.capture();
    pair.client.connect(to).exchange(&clear);
    capture.stop().assert_clear_text_seen(&clear);

    pair.enrol();
    let capture = pair.mesh.capture();
    let mut conn = pair.client.connect(to);
    conn.exchange(&secret);
    assert_eq!(conn.peer_addr(), to, "the client sees the address that it asked for");
    assert_eq!(echo.peers()[1].ip(), from, "the server sees the client's own address");
    let wire = capture.stop();
    wire.assert_never_in_clear(&secret);
    wire.assert_tls13();
    let ports: Vec<u16> = wire.between(from, to.ip()).map(|stream| stream.destination.port()).collect();
    assert!(ports.contains(&15008), "pod address to pod address, to the tunnel's port: {wire}");
}

#[test]
fn an_ipv4_request_is_tls_on_the_wire_and_unchanged_for_the_applications() {
    let Some(pair) = Pair::plain("an_ipv4_request_is_tls_on_the_wire_and_unchanged_for_the_applications") else {
        return;
    };
    check_promise(&pair, pair.server.addr(8080), pair.client.ip());
}

#[test]
fn an_ipv6_request_is_tls_on_the_wire_and_unchanged_for_the_applications() {
    let Some(pair) = Pair::plain("an_ipv6_request_is_tls_on_the_wire_and_unchanged_for_the_applications") else {
        return;
    };
    check_promise(&pair, pair.server.addr6(8080), pair.client.ip6());
}

#[test]
fn a_server_may_speak_first() {
    let Some(pair) = Pair::enrolled("a_server_may_speak_first") else { return };
    pair.server.serve_banner(25, "220 ready\n");
    let mut conn = pair.client.connect(pair.server.addr(25));
    assert_eq!(conn.receive_line(), "220 ready");
    conn.exchange("HELO");
}

#[test]
fn large_transfers_arrive_whole_and_leave_no_byte_in_clear() {
    let Some(pair) = Pair::enrolled("large_transfers_arrive_whole_and_leave_no_byte_in_clear") else { return };
    pair.server.serve_echo(8080);
    const SIZE: usize = 8 << 20;
    let bytes: Vec<u8> = (0..SIZE as u32 / 4).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let marker = Marker::new();

    let capture = pair.mesh.capture();
    let mut conn = pair.client.connect(pair.server.addr(8080));
    let sender = conn.stream().try_clone().expect("a socket can be shared");
    let sent = bytes.clone();
    let sending = thread::spawn(move || (&sender).write_all(&sent));
    assert!(conn.receive(SIZE) == bytes, "the echo differs from what was sent");
    sending.join().expect("no panic").expect("everything is sent");
    conn.exchange(&marker);
    let wire = capture.stop();
    wire.assert_never_in_clear(&marker);
    wire.assert_tls13();
}

#[test]
fn many_connections_at_once_keep_their_data_apart() {
    let Some(pair) = Pair::enrolled("many_connections_at_once_keep_their_data_apart") else { return };
    pair.server.serve_echo(8080);
    let mut conns: Vec<(Conn, Marker)> =
        (0..150).map(|_| (pair.client.connect(pair.server.addr(8080)), Marker::new())).collect();
    for (conn, marker) in &mut conns {
        conn.send(&*marker);
    }
    for (conn, marker) in &mut conns {
        conn.expect(&*marker);
    }
}

#[test]
fn readers_that_stall_do_not_hold_up_other_connections() {
    let Some(pair) = Pair::enrolled("readers_that_stall_do_not_hold_up_other_connections") else { return };
    // Sends for as long as someone takes it; the client never reads.
    pair.server.serve(1, |conn| {
        let chunk = [b'.'; 64 * 1024];
        while conn.stream().write_all(&chunk).is_ok() {}
    });
    pair.server.serve_echo(2);
    let mut stalled: Vec<Conn> = (0..8).map(|_| pair.client.connect(pair.server.addr(1))).collect();
    for conn in &mut stalled {
        conn.receive(1);
    }
    // As much as would fill any window that all share, while nobody reads.
    for _ in 0..50 {
        let mut conn = pair.client.connect(pair.server.addr(2));
        conn.exchange(vec![b'x'; 64 * 1024]);
    }
}

#[test]
fn a_pod_reaches_itself_without_the_mesh() {
    let Some(pair) = Pair::enrolled("a_pod_reaches_itself_without_the_mesh") else { return };
    let echo = pair.client.serve_echo(8080);
    for to in ["127.0.0.1:8080".parse().unwrap(), "[::1]:8080".parse().unwrap(), pair.client.addr(8080)] {
        let mut conn = pair.client.connect(to);
        conn.exchange("hello");
        assert_eq!(conn.peer_addr(), to);
        assert_eq!(echo.peers().last(), Some(&conn.local_addr()), "nothing stands between");
    }
}
