//! What the agent changes in a pod goes when the pod leaves, and when the agent does.

use std::thread;
use std::time::Instant;

use harness::{DEADLINE, Marker};

use crate::fixture::{Pair, network_state};

#[test]
fn a_pod_that_leaves_is_as_it_was() {
    let Some(pair) = Pair::plain("a_pod_that_leaves_is_as_it_was") else { return };
    let before = [&pair.client, &pair.server].map(network_state);
    pair.server.serve_echo(8080);
    pair.enrol();
    pair.client.connect(pair.server.addr(8080)).exchange("hello");
    pair.leave();
    // The way of replies goes with the last connection, which may take a moment longer to end than the pod to leave.
    let left = || [&pair.client, &pair.server].map(network_state);
    let end = Instant::now() + DEADLINE;
    while left() != before && Instant::now() < end {
        thread::yield_now();
    }
    assert_eq!(left(), before);
}

#[test]
fn an_agent_that_ends_leaves_nothing() {
    let Some(pair) = Pair::plain("an_agent_that_ends_leaves_nothing") else { return };
    let before = [&pair.client, &pair.server].map(network_state);
    pair.server.serve_echo(8080);
    pair.enrol();
    pair.client.connect(pair.server.addr(8080)).exchange("hello");
    for agent in [&pair.agent_a, &pair.agent_b] {
        let status = agent.terminate();
        assert!(status.success(), "{status}\n{}", agent.log());
        assert!(!agent.pins().exists(), "{} is left", agent.pins().display());
    }
    assert_eq!([&pair.client, &pair.server].map(network_state), before);
    let marker = Marker::new();
    let capture = pair.mesh.capture();
    pair.client.connect(pair.server.addr(8080)).exchange(&marker);
    capture.stop().assert_clear_text_seen(&marker);
}

#[test]
fn one_agent_that_ends_does_not_disturb_the_other() {
    let Some(pair) = Pair::enrolled("one_agent_that_ends_does_not_disturb_the_other") else { return };
    let (near, far) = (pair.b.pod("near").start(), pair.b.pod("far").start());
    pair.mesh.wait_enrolled(&[&near, &far]);
    far.serve_echo(8080);
    pair.agent_a.terminate();
    near.connect(far.addr(8080)).exchange("hello");
    let entry = pair.agent_b.wait_access("on the node", |entry| entry.source_identity() == near.identity());
    assert_eq!(entry.destination_identity(), far.identity());
}
