//! Who speaks to whom: certificates, their authority, and their renewal.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use harness::{Marker, Mesh};

use crate::fixture::{Pair, assert_fails};

#[test]
fn both_sides_name_both_identities() {
    let Some(pair) = Pair::enrolled("both_sides_name_both_identities") else { return };
    pair.server.serve_echo(8080);
    pair.client.connect(pair.server.addr(8080)).exchange("hello");
    for agent in [&pair.agent_a, &pair.agent_b] {
        let entry = agent.wait_access("to the server", |entry| entry.source_identity() == pair.client.identity());
        assert_eq!(entry.destination_identity(), pair.server.identity(), "{}", entry.line());
    }
}

#[test]
fn connections_outlive_their_certificates() {
    const LIFETIME: Duration = Duration::from_secs(4);
    let argument = ("--cert-lifetime", "4s");
    let Some(pair) = Pair::with_agent_argument("connections_outlive_their_certificates", Some(argument)) else {
        return;
    };
    pair.enrol();
    pair.server.serve_echo(8080);
    let mut kept = pair.client.connect(pair.server.addr(8080));
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < LIFETIME * 5 / 2 {
        count += 1;
        kept.exchange(format!("line {count}\n"));
        pair.client.connect(pair.server.addr(8080)).exchange("hello");
    }
    // A pod that is new has no tunnel yet: this handshake uses the certificates of now, long after the first ones ended.
    let late = pair.a.pod("late").service_account("client").start();
    pair.mesh.wait_enrolled(&[&late]);
    let capture = pair.mesh.capture();
    late.connect(pair.server.addr(8080)).exchange("hello");
    capture.stop().assert_tls13();
    kept.exchange("still here");
}

#[test]
fn the_authority_is_made_once_and_kept_private() {
    let Some(pair) = Pair::enrolled("the_authority_is_made_once_and_kept_private") else { return };
    pair.server.serve_echo(8080);
    let directory = pair.mesh.ca_directory();
    let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mode = |file: &str| fs::metadata(directory.join(file)).unwrap().permissions().mode() & 0o777;
    let root = read("root-cert.pem");
    for file in ["root-cert.pem", "ca-cert.pem", "cert-chain.pem"] {
        assert!(read(file).contains("BEGIN CERTIFICATE"), "{file}");
    }
    assert_eq!(mode("ca-key.pem"), 0o600);

    pair.agent_a.terminate();
    let again = pair.a.start_agent();
    pair.mesh.wait_enrolled(&[&pair.client, &pair.server]);
    assert_eq!(read("root-cert.pem"), root);
    pair.client.connect(pair.server.addr(8080)).exchange("hello");
    again.wait_access("to the server", |entry| entry.destination_identity() == pair.server.identity());
}

#[test]
fn a_stranger_to_the_authority_gets_nothing_through() {
    let Some(mesh) = Mesh::new("a_stranger_to_the_authority_gets_nothing_through") else { return };
    let (a, b) = (mesh.node("a"), mesh.node("b"));
    let (client, server) = (a.pod("client").start(), b.pod("server").start());
    let echo = server.serve_echo(8080);
    mesh.namespace("demo").enrol();
    let other = mesh.ca_directory().with_file_name("another-ca");
    fs::create_dir(&other).unwrap();
    let _agents = [a.start_agent(), b.agent().ca_directory(&other).start()];
    mesh.wait_enrolled(&[&client, &server]);

    let secret = Marker::new();
    let capture = mesh.capture();
    if let Ok(mut conn) = client.try_connect(server.addr(8080), Duration::from_secs(5)) {
        conn.send(&secret);
        conn.with_deadline(Duration::from_secs(20)).expect_reset();
    }
    assert_fails(&client, server.addr(8080), Duration::from_secs(20));
    let wire = capture.stop();
    wire.assert_never_in_clear(&secret);
    wire.assert_only_tls();
    assert_eq!(echo.peers(), [], "the application was not bothered");
}
