//! The series of connections: while they are open, from both sides, and when those who talked are gone.

use std::time::Duration;

use harness::{Agent, DEADLINE, eventually};
use serde_json::json;

use crate::fixture::{Pair, assert_fails};

/// Open connections are counted every five seconds.
const REPORTED: Duration = Duration::from_secs(20);

/// Time for a series to go that lives for two seconds without a connection.
const GONE: Duration = Duration::from_secs(20);

const SIZE: usize = 100_000;

fn sum(agent: &Agent, name: &str, reporter: &str) -> f64 {
    agent.metrics().sum(name, &[("reporter", reporter)])
}

#[test]
fn a_connection_is_seen_by_both_sides_while_it_is_open() {
    let Some(pair) = Pair::enrolled("a_connection_is_seen_by_both_sides_while_it_is_open") else { return };
    pair.server.serve_echo(8080);
    let mut conn = pair.client.connect(pair.server.addr(8080));
    conn.exchange(vec![b'x'; SIZE]);
    for (agent, reporter) in [(&pair.agent_a, "source"), (&pair.agent_b, "destination")] {
        for name in ["istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"] {
            eventually(REPORTED, &format!("{name} of the {reporter} before the end"), || {
                (sum(agent, name, reporter) == SIZE as f64).then_some(())
            });
        }
        assert_eq!(sum(agent, "istio_tcp_sockets_open", reporter), 1.0);
        assert_eq!(sum(agent, "istio_tcp_connections_closed_total", reporter), 0.0);
    }
    drop(conn);
    for (agent, reporter) in [(&pair.agent_a, "source"), (&pair.agent_b, "destination")] {
        eventually(DEADLINE, "its end is counted", || {
            (sum(agent, "istio_tcp_connections_closed_total", reporter) == 1.0).then_some(())
        });
        assert_eq!(sum(agent, "istio_tcp_sent_bytes_total", reporter), SIZE as f64, "no byte is counted twice");
        assert_eq!(sum(agent, "istio_tcp_sockets_open", reporter), 0.0);
    }
}

#[test]
fn the_series_of_who_is_gone_go_and_those_of_open_connections_stay() {
    let test = "the_series_of_who_is_gone_go_and_those_of_open_connections_stay";
    let Some(pair) = Pair::with_agent_argument(test, Some(("--metrics-idle", "2s"))) else { return };
    let short = pair.a.pod("short").start();
    pair.enrol();
    pair.mesh.wait_enrolled(&[&short]);
    pair.server.serve_echo(8080);
    let mut stays = pair.client.connect(pair.server.addr(8080));
    stays.exchange("first");
    let mut goes = short.connect(pair.server.addr(8080));
    goes.exchange("hello");
    let of = |agent: &Agent, workload: &str| {
        agent.metrics().sum("istio_tcp_connections_opened_total", &[("source_workload", workload)])
    };
    for agent in [&pair.agent_a, &pair.agent_b] {
        assert_eq!((of(agent, "client"), of(agent, "short")), (1.0, 1.0));
    }
    drop(goes);
    short.delete_manifest();
    for agent in [&pair.agent_a, &pair.agent_b] {
        eventually(GONE, "the pod that is gone is not shown any more", || (of(agent, "short") == 0.0).then_some(()));
        assert_eq!(of(agent, "client"), 1.0);
    }
    stays.exchange("still counted");
}

#[test]
fn failures_are_counted_by_reason_and_told_once_each() {
    let Some(pair) = Pair::enrolled("failures_are_counted_by_reason_and_told_once_each") else { return };
    let failed = |agent: &Agent, flags: &str, reporter: &str| {
        let labels = [("response_flags", flags), ("reporter", reporter)];
        agent.metrics().sum("istio_tcp_connections_failed_total", &labels)
    };
    assert_fails(&pair.client, pair.server.addr(9), DEADLINE);
    eventually(DEADLINE, "the port that nobody serves", || {
        (failed(&pair.agent_b, "CONNECT", "destination") >= 1.0).then_some(())
    });
    let line = pair.agent_b.wait_access("that fails", |entry| entry.field("reason") == "connect");
    assert!(line.line().contains("ERROR access: connection failed"), "{}", line.line());
    assert_eq!(line.field("dst.workload"), "server");

    let principal = pair.client.identity().replace("spiffe://", "");
    let policy = pair.mesh.authorization_policy("nobody").action("DENY");
    let _policy = policy.rules(json!([{"from": [{"source": {"principals": [principal]}}]}])).create();
    pair.server.serve_echo(8080);
    crate::policy::wait_refused(&pair.client, pair.server.addr(8080));
    eventually(DEADLINE, "the refusal", || (failed(&pair.agent_b, "DENY", "destination") >= 1.0).then_some(()));
    eventually(DEADLINE, "the refusal at the client's side", || {
        (failed(&pair.agent_a, "DENY", "source") >= 1.0).then_some(())
    });
    let line = pair.agent_b.wait_access("that is denied", |entry| entry.field("policy") == "demo/nobody");
    assert!(line.line().contains("WARN access: connection denied"), "{}", line.line());
}
