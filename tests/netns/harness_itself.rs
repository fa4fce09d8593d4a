//! The instruments, checked without an agent: what they claim to see must be seen.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use harness::{Marker, Mesh};

fn fails(claim: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(claim)).is_err()
}

#[test]
fn pods_reach_each_other_and_captures_see_it() {
    let Some(mesh) = Mesh::new("pods_reach_each_other_and_captures_see_it") else { return };
    let (a, b) = (mesh.node("a"), mesh.node("b"));
    let client = a.pod("client").start();
    let server = b.pod("server").start();
    let echo = server.serve_echo(8080);

    for (to, from) in [(server.addr(8080), client.ip()), (server.addr6(8080), client.ip6())] {
        let marker = Marker::new();
        let capture = mesh.capture();
        let mut conn = client.connect(to);
        // The marker crosses in two segments.
        let (head, tail) = marker.as_str().split_at(20);
        conn.exchange(head);
        conn.exchange(tail);
        assert_eq!(conn.peer_addr(), to);
        assert_eq!(echo.peers().last(), Some(&conn.local_addr()));
        assert_eq!(conn.local_addr().ip(), from);
        let wire = capture.stop();
        wire.assert_clear_text_seen(&marker);
        assert_eq!(wire.between(from, to.ip()).count(), 2, "{wire}");
        assert!(fails(|| wire.assert_never_in_clear(&marker)));
        assert!(fails(|| wire.assert_only_tls()));
        assert!(fails(|| wire.assert_silent()));
    }
}

#[test]
fn a_single_byte_in_clear_is_noticed() {
    let Some(mesh) = Mesh::new("a_single_byte_in_clear_is_noticed") else { return };
    let (a, b) = (mesh.node("a"), mesh.node("b"));
    let client = a.pod("client").start();
    let server = b.pod("server").start();
    server.serve_echo(8080);

    let capture = mesh.capture();
    client.connect(server.addr(8080)).exchange("x");
    let wire = capture.stop();
    assert!(fails(|| wire.assert_only_tls()));
    assert!(fails(|| wire.assert_tls13()));
}

#[test]
fn a_large_transfer_is_captured_whole() {
    let Some(mesh) = Mesh::new("a_large_transfer_is_captured_whole") else { return };
    let (a, b) = (mesh.node("a"), mesh.node("b"));
    let client = a.pod("client").start();
    let server = b.pod("server").start();
    server.serve_sink(8080);

    const SIZE: usize = 4 << 20;
    let marker = Marker::new();
    let capture = mesh.capture();
    let mut conn = client.connect(server.addr(8080));
    conn.send(vec![b'.'; SIZE]);
    conn.send(&marker);
    conn.half_close();
    let total = SIZE + marker.as_str().len();
    assert_eq!(conn.receive_to_end(), total.to_string().as_bytes());
    let wire = capture.stop();
    wire.assert_clear_text_seen(&marker);
    let sizes: Vec<usize> = wire.between(client.ip(), server.ip()).map(|s| s.len()).collect();
    assert_eq!(sizes, [total, total.to_string().len()]);
}

#[test]
fn an_external_machine_talks_to_pods_and_sees_their_address() {
    let Some(mesh) = Mesh::new("an_external_machine_talks_to_pods_and_sees_their_address") else { return };
    let pod = mesh.node("a").pod("app").start();
    let outside = mesh.external("outside");
    outside.serve_http(80, |peer| format!("you are {}", peer.ip()));
    pod.serve_banner(25, "220 ready\n");

    assert!(pod.http_get(outside.addr(80), "/").ends_with(&format!("you are {}", pod.ip())));
    assert!(pod.http_get(outside.addr6(80), "/").ends_with(&format!("you are {}", pod.ip6())));
    assert_eq!(outside.connect(pod.addr(25)).receive_line(), "220 ready");
}

#[test]
fn resets_and_refusals_are_told_from_clean_ends() {
    let Some(mesh) = Mesh::new("resets_and_refusals_are_told_from_clean_ends") else { return };
    let node = mesh.node("a");
    let (client, server) = (node.pod("client").start(), node.pod("server").start());
    server.serve(1, |mut conn| {
        conn.expect("go");
        conn.reset();
    });
    server.serve(2, drop);
    let mut conn = client.connect(server.addr(1));
    conn.send("go");
    conn.expect_reset();
    client.connect(server.addr(2)).expect_eof();
    let refused = client.try_connect(server.addr(3), harness::DEADLINE).expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let hole = client.try_connect((node.black_hole(), 80).into(), std::time::Duration::from_millis(200));
    assert_eq!(hole.expect_err("nobody answers").kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn nothing_is_left_of_a_mesh_even_after_a_panic() {
    let Some(mesh) = Mesh::new("nothing_is_left_of_a_mesh_even_after_a_panic") else { return };
    let node = mesh.node("a");
    let (netns, manifests) = (node.netns().path(), mesh.manifests().to_owned());
    let sleeper = mesh.start_process(&node, std::process::Command::new("sleep").arg("100"));
    assert!(Path::new("/proc").join(sleeper.pid().to_string()).exists());
    assert!(netns.exists() && manifests.exists());
    assert!(fails(move || {
        let (_mesh, _node) = (mesh, node);
        panic!("as a failing test does");
    }));
    assert!(!sleeper.is_running());
    assert!(!netns.exists());
    assert!(!manifests.exists(), "the temporary directory goes with the last handle");
}

#[test]
fn a_failing_server_fails_the_test() {
    let Some(mesh) = Mesh::new("a_failing_server_fails_the_test") else { return };
    let node = mesh.node("a");
    let (client, server) = (node.pod("client").start(), node.pod("server").start());
    server.serve(1, |mut conn| conn.expect("yes"));
    let mut conn = client.connect(server.addr(1));
    conn.send("no!");
    conn.expect_eof();
    assert!(fails(move || drop(mesh)));
}
