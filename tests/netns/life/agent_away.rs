//! While an agent is away, connections wait or fail: they never go in clear.

use std::thread;
use std::time::Duration;

use harness::{Marker, holds_for};

use crate::fixture::Pair;

/// Longer than two retransmissions of a SYN (after 1 s and 3 s).
const PATIENCE: Duration = Duration::from_secs(15);

#[test]
fn a_connection_made_while_the_clients_agent_is_away_waits_for_it() {
    let Some(pair) = Pair::enrolled("a_connection_made_while_the_clients_agent_is_away_waits_for_it") else { return };
    let echo = pair.server.serve_echo(8080);
    let secret = Marker::new();
    let capture = pair.mesh.capture();
    pair.agent_a.kill();
    thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let mut conn = pair.client.try_connect(pair.server.addr(8080), PATIENCE).expect("it waits, then connects");
            conn.exchange(&secret);
        });
        holds_for(Duration::from_millis(1500), "the connection waits", || !connecting.is_finished());
        assert_eq!(echo.peers(), [], "nothing went past the agent");
        let _agent = pair.a.start_agent();
        connecting.join().expect("served in the end");
    });
    let wire = capture.stop();
    wire.assert_never_in_clear(&secret);
    wire.assert_only_tls();
}

#[test]
fn while_the_servers_agent_is_away_nothing_reaches_the_application() {
    let Some(pair) = Pair::enrolled("while_the_servers_agent_is_away_nothing_reaches_the_application") else { return };
    let echo = pair.server.serve_echo(8080);
    let stranger = pair.a.pod("stranger").namespace("elsewhere").start();
    pair.agent_b.kill();
    let secret = Marker::new();
    let capture = pair.mesh.capture();
    if let Ok(mut conn) = stranger.try_connect(pair.server.addr(8080), Duration::from_secs(2)) {
        conn.expect_reset();
    }
    assert_eq!(echo.peers(), [], "plain connections are refused, not let through unseen");

    thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let conn = pair.client.try_connect(pair.server.addr(8080), PATIENCE).expect("the client's agent takes it");
            conn.with_deadline(PATIENCE).exchange(&secret);
        });
        let _agent = pair.b.start_agent();
        connecting.join().expect("served in the end");
    });
    capture.stop().assert_never_in_clear(&secret);
}
