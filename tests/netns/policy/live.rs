//! Connections that are open when something changes.

use std::time::{Duration, Instant};

use harness::{Conn, DEADLINE, Pod, eventually};
use serde_json::json;

use super::attempts::{open, source, try_exchange, wait_refused, wait_told};
use crate::fixture::{Pair, scaled};

/// The rule is one second; test machines are shared.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn a_change_of_policy_closes_the_connections_that_it_forbids_and_no_other() {
    let Some(pair) = Pair::enrolled("a_change_of_policy_closes_the_connections_that_it_forbids_and_no_other") else {
        return;
    };
    let count = scaled("SOTTO_TEST_CONNECTIONS", 20);
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
    println!("a change of policy closed {count} connections and left {count} others in {took:?}");
    assert!(took < PATIENCE, "closing {count} connections took {took:?}");
    pair.agent_b.wait_access("the reason", |entry| {
        entry.field("policy") == policy.name() && entry.field("reason") == "deny_rule"
    });
    let labels = [("action", "closed"), ("policy", "demo/no-client"), ("reason", "deny_rule")];
    let closed = || pair.agent_b.metrics().sum("sotto_policy_refusals_total", &labels).round() as usize;
    eventually(DEADLINE, "every closed connection is counted once", || (closed() == count).then_some(()));

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

/// Connections of two pods to a third that lets in pods of the mesh with the identities of the first two.
struct Three {
    pair: Pair,
    _other: Pod,
    changing: Vec<Conn>,
    kept: Vec<Conn>,
    closed_before: usize,
}

/// The connections into the server that policy has closed.
fn closed(pair: &Pair) -> usize {
    pair.agent_b.metrics().sum("sotto_policy_refusals_total", &[("action", "closed")]).round() as usize
}

impl Three {
    fn new(test: &str) -> Option<Self> {
        let pair = Pair::enrolled(test)?;
        let count = scaled("SOTTO_TEST_CONNECTIONS", 20);
        let other = pair.a.pod("other").start();
        pair.mesh.wait_enrolled(&[&other]);
        pair.server.serve_echo(8080);
        let principals = [&pair.client, &other].map(|pod| pod.identity().replace("spiffe://", ""));
        let policy = pair.mesh.authorization_policy("two").rules(source(json!({"principals": principals}))).create();
        // The agent has read it when nobody else gets in.
        let stranger = pair.a.pod("stranger").namespace("elsewhere").start();
        wait_refused(&stranger, pair.server.addr(8080));
        // The first attempt may have been let in just before, and closed; this one is refused, and that one counted.
        wait_refused(&stranger, pair.server.addr(8080));
        drop(policy);
        let closed_before = closed(&pair);
        let changing = open(&pair.client, pair.server.addr(8080), count);
        let kept = open(&other, pair.server.addr(8080), count);
        Some(Self { pair, _other: other, changing, kept, closed_before })
    }

    /// Waits until all connections of the first pod have been reset since it changed, and looks that the others go on.
    /// `by_the_server`: its agent has closed every one, and nobody else before it.
    #[track_caller]
    fn assert_closed(self, what: &str, start: Instant, by_the_server: bool) {
        let Self { pair, changing, mut kept, closed_before, .. } = self;
        let count = changing.len();
        for conn in changing {
            conn.with_deadline(DEADLINE).expect_reset();
        }
        let took = start.elapsed();
        #[expect(clippy::print_stdout, reason = "the figure is what somebody runs this for, with more connections")]
        {
            println!("{what} closed {count} connections and left {count} others in {took:?}");
        }
        assert!(took < PATIENCE, "{what} took {took:?}");
        kept.iter_mut().for_each(|conn| conn.exchange("still here"));
        if !by_the_server {
            return;
        }
        let all = closed_before + count;
        eventually(DEADLINE, "every closed connection is counted", || (closed(&pair) == all).then_some(()));
    }
}

#[test]
fn a_client_that_leaves_the_mesh_loses_what_it_could_not_have_anew() {
    let Some(three) = Three::new("a_client_that_leaves_the_mesh_loses_what_it_could_not_have_anew") else { return };
    let start = Instant::now();
    three.pair.client.opt_out();
    three.assert_closed("a client that leaves the mesh", start, true);
}

#[test]
fn a_client_with_another_identity_loses_what_it_could_not_have_anew() {
    let Some(three) = Three::new("a_client_with_another_identity_loses_what_it_could_not_have_anew") else { return };
    let start = Instant::now();
    // Its own agent takes it on anew, and may be the first to end what the old one had.
    three.pair.client.change_service_account("someone-else");
    three.assert_closed("a change of identity", start, false);
}

#[test]
fn a_client_that_leaves_keeps_what_anybody_could_have() {
    let Some(pair) = Pair::enrolled("a_client_that_leaves_keeps_what_anybody_could_have") else { return };
    pair.server.serve_echo(8080);
    let mut open = open(&pair.client, pair.server.addr(8080), 3);
    pair.client.opt_out();
    pair.mesh.wait_left(&[&pair.client]);
    open.iter_mut().for_each(|conn| conn.exchange("still here"));
}

#[test]
fn a_server_that_comes_under_another_policy_closes_what_that_forbids() {
    let Some(three) = Three::new("a_server_that_comes_under_another_policy_closes_what_that_forbids") else { return };
    let principal = three.pair.client.identity().replace("spiffe://", "");
    let deny = three.pair.mesh.authorization_policy("guarded").action("DENY").selecting("guarded", "yes");
    let _deny = deny.rules(source(json!({"principals": [principal]}))).create();
    let start = Instant::now();
    three.pair.server.label("guarded", "yes");
    three.assert_closed("a change of the server's labels", start, true);
}

#[test]
fn who_is_refused_is_told_at_once_and_the_log_does_not_flood() {
    let Some(pair) = Pair::enrolled("who_is_refused_is_told_at_once_and_the_log_does_not_flood") else { return };
    let stranger = pair.a.pod("stranger").namespace("elsewhere").start();
    pair.server.serve_echo(8080);
    let _deny = pair.mesh.authorization_policy("nobody").rules(json!([])).action("ALLOW").create();
    let to = pair.server.addr(8080);
    wait_refused(&pair.client, to);
    wait_refused(&stranger, to);
    for (who, site) in [("a pod of the mesh", &pair.client), ("a client in clear text", &stranger)] {
        let mut times: Vec<Duration> = (0..200)
            .map(|_| {
                let start = Instant::now();
                try_exchange(site, to).unwrap_err();
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("{who} is refused within {:?} (median), {:?} (slowest of 200)", times[100], times[199]);
        assert!(times[100] < Duration::from_secs(1), "{:?}", times[100]);
    }
    let refused = pair.agent_b.metrics().sum("sotto_policy_refusals_total", &[("action", "denied")]).round() as usize;
    assert!(refused >= 400, "every refusal is counted: {refused}");
    // A hundred at once and ten per second, of more than 400 in a few seconds.
    let told = pair.agent_b.log().lines().filter(|line| line.contains("no_allow_rule")).count();
    assert!((100..380).contains(&told), "{told} lines");
}
