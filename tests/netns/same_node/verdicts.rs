//! Verdicts come and go with policies, identities and membership, and open connections go with them.

use std::io::{ErrorKind, Read as _};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use harness::{Conn, DEADLINE, Pod, eventually};
use serde_json::json;

use super::home::{Home, direct, echoes, is_direct};
use crate::fixture::{is_refusal, scaled};

/// The rule is one second; test machines are shared.
const PATIENCE: Duration = Duration::from_secs(5);

/// A rule about who connects.
fn from(pod: &Pod) -> serde_json::Value {
    json!([{"from": [{"source": {"principals": [pod.identity().replace("spiffe://", "")]}}]}])
}

/// Claims that no connection gets through any more, and that it fails as one to a closed port does.
#[track_caller]
fn assert_refused(home: &Home, client: &Pod) {
    eventually(DEADLINE, "it is refused", || {
        let conn = match client.try_connect(home.server.addr(8080), DEADLINE) {
            Ok(conn) => conn,
            Err(error) => return is_refusal(&error).then_some(()),
        };
        (!echoes(&conn, "let me in")).then_some(())
    });
}

#[test]
fn a_policy_closes_what_it_forbids_at_both_ends_and_nothing_else() {
    let Some(home) = Home::new("a_policy_closes_what_it_forbids_at_both_ends_and_nothing_else") else { return };
    let other = home.node.pod("other").start();
    home.mesh.wait_enrolled(&[&other]);
    let (tell, told) = mpsc::channel();
    home.server.serve(8080, move |conn| {
        let mut stream = conn.stream();
        let mut buffer = [0; 64];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => std::io::Write::write_all(&mut stream, &buffer[..length]).unwrap(),
                Err(error) => {
                    let _ = tell.send(error.kind());
                    return;
                }
            }
        }
    });
    let count = scaled("SOTTO_TEST_CONNECTIONS", 20);
    drop((home.direct(8080), direct(&other, home.server.addr(8080))));
    let open = |pod: &Pod| -> Vec<Conn> {
        (0..count)
            .map(|_| {
                let mut conn = direct(pod, home.server.addr(8080));
                conn.exchange("hello");
                conn
            })
            .collect()
    };
    let (forbidden, mut kept) = (open(&home.client), open(&other));

    let start = Instant::now();
    let policy = home.mesh.authorization_policy("no-client").action("DENY").rules(from(&home.client)).create();
    for conn in forbidden {
        conn.with_deadline(DEADLINE).expect_reset();
    }
    let took = start.elapsed();
    println!("a change of policy severed {count} direct connections in {took:?}");
    assert!(took < PATIENCE, "severing {count} connections took {took:?}");
    for _ in 0..count {
        let kind = told.recv_timeout(DEADLINE).unwrap();
        assert!([ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset].contains(&kind), "{kind}");
    }
    kept.iter_mut().for_each(|conn| conn.exchange("still here"));
    assert!(kept.iter().all(|conn| is_direct(&other, conn)));
    assert_refused(&home, &home.client);
    policy.delete();
    home.direct(8080).exchange("as before");
}

#[test]
fn under_strict_a_pod_of_the_mesh_goes_directly_and_another_is_refused() {
    let Some(home) = Home::new("under_strict_a_pod_of_the_mesh_goes_directly_and_another_is_refused") else { return };
    let stranger = home.node.pod("stranger").namespace("elsewhere").start();
    home.server.serve_echo(8080);
    let mut clear = stranger.connect(home.server.addr(8080));
    clear.exchange("in clear text");
    assert!(is_direct(&stranger, &clear), "nothing captures a pod outside the mesh");
    let mut conn = home.direct(8080);
    let _strict = home.mesh.peer_authentication("strict").mode("STRICT").create();
    clear.with_deadline(DEADLINE).expect_reset();
    conn.exchange("still here");
    home.direct(8080).exchange("and again");
    assert_refused(&home, &stranger);
}

#[test]
fn the_port_is_a_part_of_the_verdict() {
    let Some(home) = Home::new("the_port_is_a_part_of_the_verdict") else { return };
    home.server.serve_echo(8080);
    home.server.serve_echo(8081);
    let policy = home.mesh.authorization_policy("one-port").action("ALLOW");
    let _policy = policy.rules(json!([{"to": [{"operation": {"ports": ["8080"]}}]}])).create();
    eventually(DEADLINE, "the other port is closed", || {
        let conn = home.client.try_connect(home.server.addr(8081), DEADLINE).ok()?;
        (!echoes(&conn, "let me in")).then_some(())
    });
    home.direct(8080).exchange("this one is open");
    let conn = home.client.try_connect(home.server.addr(8081), DEADLINE);
    assert!(conn.is_err() || !echoes(&conn.unwrap(), "let me in"));
}

#[test]
fn a_client_that_changes_its_identity_loses_what_its_new_one_may_not_have() {
    let Some(home) = Home::new("a_client_that_changes_its_identity_loses_what_its_new_one_may_not_have") else {
        return;
    };
    home.server.serve_echo(8080);
    let policy = home.mesh.authorization_policy("only-client").action("ALLOW");
    let _policy = policy.rules(from(&home.client)).create();
    let other = home.node.pod("other").start();
    home.mesh.wait_enrolled(&[&other]);
    assert_refused(&home, &other);
    let mut conn = home.direct(8080);
    conn.exchange("as the client");
    home.client.change_service_account("somebody-else");
    conn.with_deadline(DEADLINE).expect_reset();
    assert_refused(&home, &home.client);
}

#[test]
fn who_leaves_keeps_what_is_open_and_begins_no_other() {
    let Some(home) = Home::new("who_leaves_keeps_what_is_open_and_begins_no_other") else { return };
    home.server.serve_echo(8080);
    let mut conn = home.direct(8080);
    home.server.opt_out();
    home.mesh.wait_left(&[&home.server]);
    conn.exchange("open all along");
    let mut plain = home.client.connect(home.server.addr(8080));
    plain.exchange("to a pod outside the mesh");
    assert!(!is_direct(&home.client, &plain), "no verdict is left of a server that is gone");
    home.server.enrol();
    home.mesh.wait_enrolled(&[&home.server]);
    home.direct(8080).exchange("and back");
    conn.exchange("open all along");
    home.client.opt_out();
    home.mesh.wait_left(&[&home.client]);
    conn.exchange("open all along");
    let _strict = home.mesh.peer_authentication("strict").mode("STRICT").create();
    conn.with_deadline(DEADLINE).expect_reset();
    assert_refused(&home, &home.client);
}
