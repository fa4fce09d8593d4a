//! How connections end: every end that an application can make is what the other one sees.

use std::sync::mpsc;
use std::time::Duration;

use harness::{Conn, DEADLINE};

use crate::fixture::{Pair, assert_fails};

#[test]
fn a_client_may_end_its_half_and_still_get_the_answer() {
    let Some(pair) = Pair::enrolled("a_client_may_end_its_half_and_still_get_the_answer") else { return };
    pair.server.serve_sink(8080);
    let mut conn = pair.client.connect(pair.server.addr(8080));
    conn.send(vec![b'x'; 100_000]);
    conn.half_close();
    assert_eq!(conn.receive_to_end(), b"100000");
}

#[test]
fn a_server_may_end_its_half_and_still_be_told() {
    let Some(pair) = Pair::enrolled("a_server_may_end_its_half_and_still_be_told") else { return };
    let (told, hear) = mpsc::channel();
    pair.server.serve(8080, move |mut conn| {
        conn.send("that is all");
        conn.half_close();
        let _ = told.send(conn.receive_to_end());
    });
    let mut conn = pair.client.connect(pair.server.addr(8080));
    assert_eq!(conn.receive_to_end(), b"that is all");
    conn.send("thank you");
    conn.half_close();
    assert_eq!(hear.recv_timeout(DEADLINE).expect("the server hears the rest"), b"thank you");
}

#[test]
fn a_servers_reset_reaches_the_client() {
    let Some(pair) = Pair::enrolled("a_servers_reset_reaches_the_client") else { return };
    pair.server.serve(8080, |mut conn| {
        conn.expect("go");
        conn.reset();
    });
    let mut conn = pair.client.connect(pair.server.addr(8080));
    conn.send("go");
    conn.expect_reset();
}

#[test]
fn a_clients_reset_reaches_the_server() {
    let Some(pair) = Pair::enrolled("a_clients_reset_reaches_the_server") else { return };
    let (done, wait) = mpsc::channel();
    pair.server.serve(8080, move |mut conn: Conn| {
        conn.expect("go");
        conn.send("ok");
        conn.expect_reset();
        let _ = done.send(());
    });
    let mut conn = pair.client.connect(pair.server.addr(8080));
    conn.send("go");
    conn.expect("ok");
    conn.reset();
    wait.recv_timeout(DEADLINE).expect("the server sees the reset");
}

#[test]
fn a_closed_port_fails_as_one_and_not_as_an_empty_answer() {
    let Some(pair) = Pair::enrolled("a_closed_port_fails_as_one_and_not_as_an_empty_answer") else { return };
    let outside = pair.mesh.external("outside");
    // Nobody listens: on an enrolled pod, on the own node, on a machine outside.
    let neighbour = pair.a.pod("neighbour").start();
    pair.mesh.wait_enrolled(&[&neighbour]);
    for address in [pair.server.addr(9), pair.server.addr6(9), neighbour.addr(9), outside.addr(9)] {
        // At once: not after waiting for an answer that was lost.
        assert_fails(&pair.client, address, Duration::from_secs(3));
    }
}

#[test]
fn a_silent_address_fails_after_a_while() {
    let Some(pair) = Pair::enrolled("a_silent_address_fails_after_a_while") else { return };
    assert_fails(&pair.client, (pair.b.black_hole(), 80).into(), Duration::from_secs(40));
}
