//! Agents that end in order, pods whose namespaces vanish, and agents that meet: nothing is left, nobody is disturbed.

use std::fs;
use std::time::{Duration, Instant};

use harness::{Agent, DEADLINE, Marker, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Pair, network_state};

/// Longer than any test.
const LONG: &str = "60s";

fn ask_to_end(agent: &Agent) {
    kill(Pid::from_raw(agent.pid().cast_signed()), Signal::SIGTERM).expect("it runs");
    agent.wait_log("the beginning of its end", |line| line.contains("agent ends"));
}

/// Claims that it has ended well and that nothing of it is left.
fn assert_nothing_left(agent: &Agent) {
    let status = agent.terminate();
    assert!(status.success(), "{status}\n{}", agent.log());
    assert!(!agent.pins().exists(), "{} is left", agent.pins().display());
}

/// A connection that is open when an agent is asked to end goes on, encrypted, for as long as it likes.
fn check_patience(test: &str, which: impl FnOnce(&Pair) -> &Agent) {
    let Some(pair) = Pair::with_agent_argument(test, Some(("--drain", LONG))) else { return };
    let before = [&pair.client, &pair.server].map(network_state);
    pair.server.serve_echo(8080);
    pair.enrol();
    let (agent, secret) = (which(&pair), Marker::new());
    let mut conn = pair.client.connect(pair.server.addr(8080));
    conn.exchange("before");
    let capture = pair.mesh.capture();
    ask_to_end(agent);
    for _ in 0..20 {
        conn.exchange(&secret);
    }
    assert!(agent.is_running(), "it waits for the connection");
    conn.half_close();
    conn.expect_eof();
    assert_nothing_left(agent);
    capture.stop().assert_never_in_clear(&secret);
    for agent in [&pair.agent_a, &pair.agent_b] {
        assert_nothing_left(agent);
    }
    assert_eq!([&pair.client, &pair.server].map(network_state), before);
}

#[test]
fn a_connection_outlives_the_end_of_its_clients_agent() {
    check_patience("a_connection_outlives_the_end_of_its_clients_agent", |pair| &pair.agent_a);
}

#[test]
fn a_connection_outlives_the_end_of_its_servers_agent() {
    check_patience("a_connection_outlives_the_end_of_its_servers_agent", |pair| &pair.agent_b);
}

#[test]
fn a_drains_deadline_closes_what_is_still_open() {
    const TEST: &str = "a_drains_deadline_closes_what_is_still_open";
    let Some(pair) = Pair::with_agent_argument(TEST, Some(("--drain", "2s"))) else { return };
    let before = [&pair.client, &pair.server].map(network_state);
    pair.server.serve_echo(8080);
    pair.enrol();
    for agent in [&pair.agent_a, &pair.agent_b] {
        // The second agent's connection is one of its own pod to the server outside.
        let outside = pair.mesh.external(&format!("outside-of-{}", agent.node()));
        outside.serve_echo(80);
        let pod = if agent.pid() == pair.agent_a.pid() { &pair.client } else { &pair.server };
        let mut conn = pod.connect(outside.addr(80));
        conn.exchange("before");
        let start = Instant::now();
        ask_to_end(agent);
        conn.expect_reset();
        assert!(start.elapsed() >= Duration::from_millis(1900), "closed after {:?}", start.elapsed());
        assert_nothing_left(agent);
    }
    assert_eq!([&pair.client, &pair.server].map(network_state), before);
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    const TEST: &str = "a_second_signal_ends_a_drain_at_once";
    let Some(pair) = Pair::with_agent_argument(TEST, Some(("--drain", LONG))) else { return };
    // What a pod has set itself is not the agent's to put back.
    pair.server.netns().sysctl("net/ipv4/tcp_tw_reuse", "1");
    pair.server.netns().ip("link set lo gso_max_size 60000");
    let before = [&pair.client, &pair.server].map(network_state);
    pair.server.serve_echo(8080);
    pair.enrol();
    for (pod, size) in [(&pair.client, 256 * 1024), (&pair.server, 60_000)] {
        let state = network_state(pod);
        assert!(state.contains(&format!(" gso_max_size {size} ")), "{size}:\n{state}");
    }
    let mut conn = pair.client.connect(pair.server.addr(8080));
    conn.exchange("before");
    for agent in [&pair.agent_a, &pair.agent_b] {
        ask_to_end(agent);
        assert_nothing_left(agent);
    }
    conn.expect_reset();
    assert_eq!([&pair.client, &pair.server].map(network_state), before);
}

#[test]
fn a_pod_whose_namespace_vanishes_is_forgotten_and_nobody_else_notices() {
    const TEST: &str = "a_pod_whose_namespace_vanishes_is_forgotten_and_nobody_else_notices";
    let Some(pair) = Pair::enrolled(TEST) else { return };
    pair.server.serve_echo(8080);
    let mut other = pair.client.connect(pair.server.addr(8080));
    other.exchange("before");
    let (files, pins) = (open_files(&pair.agent_a), pair.agent_a.pinned_pods());

    let brief = pair.a.pod("brief").start();
    pair.mesh.wait_enrolled(&[&brief]);
    brief.connect(pair.server.addr(8080)).exchange("hello");
    assert!(open_files(&pair.agent_a) > files && pair.agent_a.pinned_pods() == pins + 1);
    let (file, path) = (pair.mesh.manifests().join(brief.manifest_file()), brief.netns().path());
    // `ip netns del`, and the manifest stays.
    drop(brief);
    assert!(!path.exists() && file.exists());
    other.exchange("during");
    eventually(DEADLINE, "the agent says what it misses", || {
        let dump = pair.agent_a.config_dump();
        let pod = dump["pods"].as_array()?.iter().find(|pod| pod["name"] == "brief")?.clone();
        (pod["enrolled"] == false && pod["waitingFor"].as_str()?.contains(path.to_str()?)).then_some(())
    });
    eventually(DEADLINE * 2, "descriptors and pins of the pod are gone", || {
        (open_files(&pair.agent_a) <= files && pair.agent_a.pinned_pods() == pins).then_some(())
    });
    fs::remove_file(file).unwrap();
    eventually(DEADLINE, "the pod is forgotten", || {
        let dump = pair.agent_a.config_dump();
        dump["pods"].as_array()?.iter().all(|pod| pod["name"] != "brief").then_some(())
    });
    other.exchange("after");
}

#[test]
fn a_pod_whose_manifest_goes_first_is_forgotten_too() {
    let Some(pair) = Pair::enrolled("a_pod_whose_manifest_goes_first_is_forgotten_too") else { return };
    pair.server.serve_echo(8080);
    pair.client.connect(pair.server.addr(8080)).exchange("hello");
    let (files, pins) = (open_files(&pair.agent_a), pair.agent_a.pinned_pods());
    let brief = pair.a.pod("brief").start();
    let before = network_state(&brief);
    pair.mesh.wait_enrolled(&[&brief]);
    brief.connect(pair.server.addr(8080)).exchange("hello");
    brief.delete_manifest();
    eventually(DEADLINE * 2, "descriptors and pins of the pod are gone", || {
        (open_files(&pair.agent_a) <= files && pair.agent_a.pinned_pods() == pins).then_some(())
    });
    assert_eq!(network_state(&brief), before);
    let marker = Marker::new();
    let capture = pair.mesh.capture();
    brief.connect(pair.server.addr(8080)).exchange(&marker);
    capture.stop().assert_clear_text_seen(&marker);
}

#[test]
fn a_second_agent_of_a_node_is_refused_and_the_first_goes_on() {
    let Some(pair) = Pair::enrolled("a_second_agent_of_a_node_is_refused_and_the_first_goes_on") else { return };
    pair.server.serve_echo(8080);
    let second = pair.a.agent().spawn();
    eventually(DEADLINE, "the second agent ends", || (!second.is_running()).then_some(()));
    assert!(!second.terminate().success());
    let log = second.log();
    assert!(log.contains("already runs") && log.contains(&*second.pins().display().to_string()), "{log}");
    let secret = Marker::new();
    let capture = pair.mesh.capture();
    pair.client.connect(pair.server.addr(8080)).exchange(&secret);
    capture.stop().assert_tls13();

    // A lock that outlived its owner would keep the node without an agent.
    pair.agent_a.kill();
    let _next = pair.a.start_agent();
}

fn open_files(agent: &Agent) -> usize {
    fs::read_dir(format!("/proc/{}/fd", agent.pid())).map_or(0, |entries| entries.count())
}
