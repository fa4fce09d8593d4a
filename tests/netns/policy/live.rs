//! Connections that are open when something changes.

use std::time::{Duration, Instant};

use harness::DEADLINE;
use serde_json::json;

use super::attempts::{open, source, wait_refused, wait_told};
use crate::fixture::Pair;

#[test]
fn a_change_of_policy_closes_the_connections_that_it_forbids_and_no_other() {
    let Some(pair) = Pair::enrolled("a_change_of_policy_closes_the_connections_that_it_forbids_and_no_other") else {
        return;
    };
    let count = std::env::var_os("SOTTO_TEST_CONNECTIONS").and_then(|count| count.to_str()?.parse().ok()).unwrap_or(20);
    let other = pair.a.pod("other").start();
    let stranger = pair.a.pod("stranger").namespace("elsewhere").start();
    pair.mesh.wait_enrolled(&[&other]);
    pair.server.serve_echo(8080);
    let to = pair.server.addr(8080);
    let forbidden = open(&pair.client, to, count);
    let mut kept = open(&other, to, count);
    let mut clear = open(&stranger, to, 3);

    let principal = pair.client.identity().replace("spiffe://", "");
    let start = Instant::now();
    let policy = pair.mesh.authorization_policy("no-client").action("DENY");
    let policy = policy.rules(source(json!({"principals": [principal]}))).create();
    for conn in forbidden {
        conn.with_deadline(DEADLINE).expect_reset();
    }
    let took = start.elapsed();
    for conn in kept.iter_mut().chain(&mut clear) {
        conn.exchange("still here");
    }
    assert!(took < Duration::from_secs(5), "closing {count} connections took {took:?}");
    pair.agent_b.wait_access("the reason", |entry| {
        entry.field("policy") == policy.name() && entry.field("reason") == "deny_rule"
    });
    let labels = [("action", "closed"), ("policy", "demo/no-client"), ("reason", "deny_rule")];
    let closed = pair.agent_b.metrics().sum("sotto_policy_refusals_total", &labels);
    assert_eq!(closed.round() as usize, count, "every closed connection is counted once");

    let _strict = pair.mesh.peer_authentication("strict").mode("STRICT").create();
    for conn in clear {
        conn.with_deadline(DEADLINE).expect_reset();
    }
    kept.iter_mut().for_each(|conn| conn.exchange("still here"));
    wait_told(
        &pair.agent_b,
        &pair.client,
        {
            wait_refused(&pair.client, to);
            "demo/no-client"
        },
        "deny_rule",
    );
}
