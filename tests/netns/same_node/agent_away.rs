//! Direct connections while there is no agent.

use std::time::Duration;

use harness::{DEADLINE, eventually, holds_for};
use serde_json::json;

use super::home::Home;

#[test]
fn open_connections_outlive_the_agent_and_new_ones_wait_for_the_next() {
    let Some(home) = Home::new("open_connections_outlive_the_agent_and_new_ones_wait_for_the_next") else { return };
    home.server.serve_echo(8080);
    let mut open = home.direct(8080);
    home.agent.kill();
    eventually(DEADLINE, "no new connection goes without an agent", || {
        home.client.try_connect(home.server.addr(8080), Duration::from_millis(300)).is_err().then_some(())
    });
    open.exchange("open all along");
    holds_for(Duration::from_secs(1), "new connections wait", || {
        home.client.try_connect(home.server.addr(8080), Duration::from_millis(100)).is_err()
    });
    let agent = home.node.start_agent();
    home.mesh.wait_enrolled(&[&home.client, &home.server]);
    open.exchange("open all along");
    home.direct(8080).exchange("and new ones");
    let client = open.local_addr().to_string();
    drop(open);
    // The next agent tells of what the first let in.
    let entry = agent.wait_access("its end", |entry| entry.field("src.addr") == client);
    assert_eq!(entry.source_identity(), home.client.identity());
}

#[test]
fn what_was_forbidden_meanwhile_is_severed_by_the_next_agent() {
    let Some(home) = Home::new("what_was_forbidden_meanwhile_is_severed_by_the_next_agent") else { return };
    home.server.serve_echo(8080);
    home.server.serve_echo(8081);
    let (forbidden, mut allowed) = (home.direct(8080), home.direct(8081));
    home.agent.kill();
    let policy = home.mesh.authorization_policy("not-this-port").action("DENY");
    let _policy = policy.rules(json!([{"to": [{"operation": {"ports": ["8080"]}}]}])).create();
    let _agent = home.node.start_agent();
    forbidden.with_deadline(DEADLINE).expect_reset();
    allowed.exchange("still here");
}

#[test]
fn an_agent_that_ends_lets_open_connections_be() {
    let Some(home) = Home::new("an_agent_that_ends_lets_open_connections_be") else { return };
    home.server.serve_echo(8080);
    let mut open = home.direct(8080);
    assert!(home.agent.terminate().success());
    open.exchange("open all along");
    // Standalone, the capture goes with the agent.
    home.client.connect(home.server.addr(8080)).exchange("without the mesh");
}
