//! The API server goes away, comes back, and has forgotten.

use std::time::Duration;

use harness::{ApiServer, Gate, holds_for};
use serde_json::json;

use crate::following::{Followed, SOON, has};
use crate::objects;

#[test]
fn the_last_state_serves_while_the_api_server_is_away() {
    let Some(server) = ApiServer::start("the_last_state_serves_while_the_api_server_is_away") else { return };
    server.create_all(&[objects::namespace("demo", &json!({})), objects::pod("demo", "web", "10.0.0.1")]);
    let followed = Followed::start(&server.kubeconfig());
    followed.wait("the first state", |state| state.loaded && has(state, "demo", "web"));
    server.stop_server();
    let state = followed.wait("the outage is reported", |state| !state.problems.is_empty());
    assert!(has(&state, "demo", "web"));
    assert!(state.problems[0].to_string().contains("cannot be reached"), "{}", state.problems[0]);
    assert!(state.may_hide_pods(), "nobody may be let go of for not being in it");
    server.start_server();
    followed.wait_for(SOON * 2, "the outage is over", |state| state.problems.is_empty());
    server.create(&objects::pod("demo", "late", "10.0.0.2"));
    followed.wait("news arrive again", |state| has(state, "demo", "late") && has(state, "demo", "web"));
}

#[test]
fn an_agent_that_starts_before_the_api_server_waits_for_it() {
    let Some(server) = ApiServer::start("an_agent_that_starts_before_the_api_server") else { return };
    server.create_all(&[objects::namespace("demo", &json!({})), objects::pod("demo", "web", "10.0.0.1")]);
    let kubeconfig = server.kubeconfig();
    server.stop_server();
    let followed = Followed::start(&kubeconfig);
    holds_for(Duration::from_secs(1), "it has nothing to show", || !followed.state().loaded);
    let pending = followed.readiness.pending();
    assert!(pending.iter().any(|missing| missing == "list of Pods"), "{pending:?}");
    server.start_server();
    followed.wait_for(SOON * 2, "it is there", |state| has(state, "demo", "web"));
    assert!(followed.readiness.pending().is_empty());
}

#[test]
fn a_version_that_is_forgotten_is_listed_anew() {
    let Some(server) = ApiServer::start("a_version_that_is_forgotten_is_listed_anew") else { return };
    let gate = Gate::new(server.address());
    server.create_all(&[
        objects::namespace("demo", &json!({})),
        objects::pod("demo", "stays", "10.0.0.1"),
        objects::pod("demo", "goes", "10.0.0.2"),
    ]);
    let followed = Followed::start(&server.kubeconfig_through(&gate));
    followed.wait("the first state", |state| has(state, "demo", "goes"));
    gate.close();
    server.delete("/api/v1/namespaces/demo/pods/goes");
    for number in 0..20 {
        server.create(&objects::pod("demo", &format!("new-{number}"), &format!("10.0.1.{number}")));
    }
    server.compact();
    // Its watch cache begins anew, at the newest version.
    server.stop_server();
    server.start_server();
    assert!(has(&followed.state(), "demo", "goes"), "nothing is taken back while nothing is known");
    gate.open();
    let state = followed.wait_for(SOON * 2, "it has caught up", |state| has(state, "demo", "new-19"));
    assert!(!has(&state, "demo", "goes") && has(&state, "demo", "stays"));
    for _ in 0..5 {
        gate.close();
        gate.open();
    }
    server.create(&objects::pod("demo", "last", "10.0.0.9"));
    followed.wait("watches that break are taken up again", |state| has(state, "demo", "last"));
}
