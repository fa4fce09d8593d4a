//! A real Prometheus scrapes real agents, and is asked what dashboards ask.

use std::time::{Duration, Instant};

use harness::{DEADLINE, Mesh, Prometheus, Service, eventually};
use serde_json::json;

use super::dashboards::{self, Question};
use crate::fixture::{Pair, assert_fails};

/// Some scrapes, a second apart, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What promtool complains of that is so on purpose: these are Istio's names.
const ON_PURPOSE: [&str; 2] = ["workload_manager_active_proxy_count", "workload_manager_pending_proxy_count"];

/// Two nodes whose agents serve metrics to a Prometheus.
fn scraped(test: &str) -> Option<(Pair, Prometheus)> {
    if !Prometheus::is_there(test) {
        return None;
    }
    let mesh = Mesh::new(test)?;
    let (a, b) = (mesh.node("a"), mesh.node("b"));
    let (client, server) = (a.pod("client").start(), b.pod("server").start());
    let [agent_a, agent_b] =
        [&a, &b].map(|node| node.agent().arg("--metrics-addr", &Prometheus::target(node).to_string()).spawn());
    agent_a.wait_ready();
    agent_b.wait_ready();
    let prometheus = Prometheus::start(&mesh, &[&a, &b], include_str!("../../../deploy/dashboards/scrape.yaml"));
    let pair = Pair { a, b, agent_a, agent_b, client, server, mesh };
    pair.enrol();
    Some((pair, prometheus))
}

/// Some of everything: a service that is used, a pod outside the mesh, one that is denied, a port that nobody serves, a reset.
fn traffic(pair: &Pair, web: &Service, stranger: &harness::Pod, denied: &harness::Pod) {
    assert!(pair.client.http_get(web.addr(80), "/").ends_with("hello"));
    assert!(stranger.http_get(pair.server.addr(8080), "/").ends_with("hello"));
    let mut conn = pair.client.connect(pair.server.addr(8081));
    conn.exchange("to be reset");
    conn.reset();
    assert_fails(denied, pair.server.addr(8080), DEADLINE);
    assert_fails(&pair.client, pair.server.addr(9), DEADLINE);
}

#[test]
fn dashboards_find_what_they_ask_for() {
    let Some((pair, prometheus)) = scraped("dashboards_find_what_they_ask_for") else { return };
    let denied = pair.a.pod("denied").start();
    let stranger = pair.a.pod("stranger").namespace("elsewhere").start();
    pair.mesh.wait_enrolled(&[&denied]);
    pair.server.serve_http(8080, |_| "hello".to_owned());
    pair.server.serve_echo(8081);
    let web = pair.mesh.service("web").port(80, 8080).pods(&[&pair.server]).create();
    pair.agent_a.wait_service(&web);
    pair.agent_b.wait_service(&web);
    let principal = denied.identity().replace("spiffe://", "");
    let policy = pair.mesh.authorization_policy("no-denied").action("DENY");
    let _policy = policy.rules(json!([{"from": [{"source": {"principals": [principal]}}]}])).create();
    crate::policy::wait_refused(&denied, pair.server.addr(8080));

    let mut open: Vec<Question> = dashboards::usual().into_iter().chain(dashboards::own()).collect();
    let (asked, end) = (open.len(), Instant::now() + PATIENCE);
    while !open.is_empty() {
        let missing = || open.iter().map(|q| format!("\n{}: {}", q.asked_by, q.query)).collect::<String>();
        assert!(Instant::now() < end, "of {asked} questions these have no answer after {PATIENCE:?}:{}", missing());
        traffic(&pair, &web, &stranger, &denied);
        open.retain(|question| !has_answer(&prometheus, question) && question.empty.is_none());
    }
}

fn has_answer(prometheus: &Prometheus, question: &Question) -> bool {
    let answer = prometheus.query(&question.query);
    let answer = answer.unwrap_or_else(|error| panic!("{}: {}: {error}", question.asked_by, question.query));
    answer.iter().any(|series| series.value.is_finite())
}

#[test]
fn promtool_has_no_complaint_about_the_page() {
    let Some((pair, prometheus)) = scraped("promtool_has_no_complaint_about_the_page") else { return };
    pair.server.serve_echo(8080);
    pair.client.connect(pair.server.addr(8080)).exchange("hello");
    assert_fails(&pair.client, pair.server.addr(9), DEADLINE);
    let agents = [&pair.agent_a, &pair.agent_b];
    let page = agents[0].get("/metrics");
    for name in ["istio_tcp_connections_opened_total{", "istio_tcp_connections_failed_total{"] {
        assert!(page.contains(name), "{name} in {page}");
    }
    let families =
        |page: &str| page.lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(families(&page), families(&agents[0].get("/stats/prometheus")), "Istio's path shows the same");
    for agent in agents {
        let complaints = Prometheus::lint(&agent.get("/metrics"));
        let unknown: Vec<_> =
            complaints.iter().filter(|line| !ON_PURPOSE.iter().any(|name| line.contains(name))).collect();
        assert!(unknown.is_empty(), "{unknown:#?}");
        assert_eq!(complaints.len(), ON_PURPOSE.len(), "{complaints:#?}");
    }
    // What was asked for by curl is what Prometheus itself takes in.
    eventually(PATIENCE, "Prometheus has scraped both", || {
        let up = prometheus.query("sum(up)").unwrap();
        up.iter().any(|series| series.value == 2.0).then_some(())
    });
}
