//! Nothing is left of what has ended: descriptors, tasks, map entries and memory are back where they were.

use std::net::{SocketAddr, TcpStream};

use harness::{Agent, DEADLINE, NamespaceHandle, Pod, Site};

use super::usage::{Usage, crowd, raise_own_limit, reset_when_dropped, serve_idle};
use crate::fixture::{Pair, scaled};

/// What the allocator may keep in fragments from one round to the next, in KiB.
const SLACK: usize = 6 * 1024;

/// Tunnels that stay open for the next connections after `number` at once, and one that was just begun.
fn tunnels(number: usize) -> usize {
    number / 200 + 2
}

fn sequence(site: &Site, to: SocketAddr, number: usize) {
    for _ in 0..number {
        let connect = || TcpStream::connect_timeout(&to, DEADLINE);
        let mut stream = site.netns().run(connect).expect("the mesh carries it");
        let answer = std::io::Read::read_exact(&mut stream, &mut [0; 1]);
        answer.expect("the application answers");
        // Ports would run out in TIME_WAIT.
        reset_when_dropped(&stream);
    }
}

#[test]
fn connections_one_after_the_other_leave_nothing() {
    let Some(pair) = Pair::enrolled("connections_one_after_the_other_leave_nothing") else { return };
    let number = scaled("SOTTO_TEST_SEQUENTIAL", 2_000);
    serve_idle(&pair.server, 9090);
    let agents = [&pair.agent_a, &pair.agent_b];
    sequence(&pair.client, pair.server.addr(9090), number / 2);
    let before = agents.map(Usage::of);
    sequence(&pair.client, pair.server.addr(9090), number);
    for (before, agent) in before.iter().zip(agents) {
        let after = before.wait_back(agent, 1);
        println!("{number} connections, agent of {}: {before:?} -> {after:?}", agent.node());
        assert!(after.memory <= before.memory + SLACK, "{before:?} -> {after:?}");
    }
}

#[test]
fn connections_at_once_leave_nothing_and_cost_little() {
    // Before the agents start, who inherit it: each of 5,000 connections is two of a pod's descriptors, half of all there are.
    raise_own_limit();
    let Some(pair) = Pair::enrolled("connections_at_once_leave_nothing_and_cost_little") else { return };
    let number = scaled("SOTTO_TEST_CONCURRENT", 1_000);
    serve_idle(&pair.server, 9090);
    let agents = [&pair.agent_a, &pair.agent_b];
    assert_eq!(crowd(&pair.client, pair.server.addr(9090), 50).len(), 50);
    let first = agents.map(Usage::of);
    let mut peaks = [0; 2];
    for round in 0..3 {
        // A few at a time: what it costs for a moment to open one is not what it costs to have one.
        let few = |_| crowd(&pair.client, pair.server.addr(9090), 50);
        let held: Vec<_> = (0..number / 50).flat_map(few).collect();
        assert_eq!(held.len(), number);
        let during = agents.map(Usage::of);
        drop(held);
        for ((before, during), (agent, peak)) in first.iter().zip(&during).zip(agents.iter().zip(&mut peaks)) {
            let after = before.wait_back(agent, tunnels(number));
            let each = during.memory.saturating_sub(before.memory) * 1024 / number;
            println!(
                "{number} idle, agent of {}: {each} bytes each; {before:?} -> {during:?} -> {after:?}",
                agent.node()
            );
            if round == 0 {
                *peak = during.memory;
                assert!(each < 16 * 1024, "an idle connection costs {each} bytes at the agent of {}", agent.node());
            } else {
                assert!(during.memory <= *peak + SLACK, "{} KiB, then {during:?}", *peak);
            }
        }
    }
}

#[test]
fn pods_that_come_and_go_leave_nothing() {
    let Some(pair) = Pair::enrolled("pods_that_come_and_go_leave_nothing") else { return };
    const PODS: usize = 10;
    let rounds = scaled("SOTTO_TEST_ENROLMENTS", 60) / PODS;
    let pods: Vec<_> = (0..PODS).map(|n| pair.a.pod(&format!("p{n}")).namespace("fleeting").start()).collect();
    let pods: Vec<_> = pods.iter().collect();
    let namespace = pair.mesh.namespace("fleeting");
    serve_idle(&pair.server, 9090);
    let agent = &pair.agent_a;
    let round = || {
        namespace.enrol();
        pair.mesh.wait_enrolled(&pods);
        sequence(pods[0], pair.server.addr(9090), 1);
        namespace.leave();
        pair.mesh.wait_left(&pods);
    };
    pair.mesh.wait_left(&pods);
    let empty = Usage::of(agent);
    round();
    let before = empty.wait_back(agent, 1);
    (1..rounds).for_each(|_| round());
    let after = before.wait_back(agent, 1);
    println!("{} enrolments: {empty:?}, {before:?} -> {after:?}", rounds * PODS);
    assert!(after.memory <= before.memory + SLACK, "{before:?} -> {after:?}");
}

#[test]
fn pods_with_names_of_their_own_leave_nothing() {
    const AT_ONCE: usize = 10;
    let Some(pair) = Pair::enrolled("pods_with_names_of_their_own_leave_nothing") else { return };
    let batches = scaled("SOTTO_TEST_PODS", 30) / AT_ONCE;
    serve_idle(&pair.server, 9090);
    let agents = [&pair.agent_a, &pair.agent_b];
    // Each its own network namespace, Kubernetes namespace, identity, and with that certificate and tunnel.
    let batch = |number: usize| {
        let names = (0..AT_ONCE).map(|n| format!("own-{number}-{n}"));
        let pods: Vec<_> =
            names.map(|name| pair.a.pod("app").namespace(&name).service_account(&name).start()).collect();
        let namespaces: Vec<_> = pods.iter().map(|pod| pair.mesh.namespace(&pod.namespace())).collect();
        for namespace in &namespaces {
            namespace.enrol();
        }
        pair.mesh.wait_enrolled(&pods.iter().collect::<Vec<_>>());
        for pod in &pods {
            sequence(pod, pair.server.addr(9090), 1);
        }
        let joined = agents.map(Usage::of);
        pods.into_iter().for_each(Pod::delete);
        namespaces.iter().for_each(NamespaceHandle::delete);
        joined
    };
    let empty = agents.map(Usage::of);
    let joined = batch(0);
    println!("{AT_ONCE} pods: {empty:?} -> {joined:?}");
    assert!(joined[0].descriptors >= empty[0].descriptors + AT_ONCE * 4, "listeners and a tunnel each");
    let before: Vec<_> = empty.iter().zip(agents).map(|(empty, agent)| empty.wait_back(agent, 1)).collect();
    // What a pod has sent is counted for some time after its end; in KiB as the page shows it. Kept, it is four times that.
    let counted = |agent: &Agent| agent.get("/metrics").len() / 1024;
    let pages = agents.map(counted);
    for number in 1..batches {
        batch(number);
    }
    for ((before, agent), page) in before.iter().zip(agents).zip(pages) {
        let (after, series) = (before.wait_back(agent, 1), counted(agent).saturating_sub(page));
        let number = batches * AT_ONCE;
        println!(
            "{number} distinct pods, agent of {}: {before:?} -> {after:?}, {series} KiB more metrics",
            agent.node()
        );
        assert!(after.memory <= before.memory + SLACK + series * 4, "{before:?} -> {after:?}, {series} KiB of metrics");
        let known = agent.config_dump()["workloads"].as_array().map_or(0, Vec::len);
        assert_eq!(known, 2, "only the client and the server are known");
    }
}
