//! `sotto explain` against running agents.

use std::process::Output;

use harness::{Agent, DEADLINE, eventually};
use serde_json::{Value, json};

use super::attempts::{source, try_exchange, wait_refused};
use crate::fixture::Pair;

fn explain(agent: &Agent, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = agent.ask(&[&["explain"], arguments].concat());
    (status.code(), String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn explanations_are_what_connections_meet() {
    let Some(pair) = Pair::enrolled("explanations_are_what_connections_meet") else { return };
    let stranger = pair.a.pod("stranger").namespace("elsewhere").start();
    pair.server.serve_echo(8080);
    pair.server.serve_echo(9090);
    let principal = pair.client.identity().replace("spiffe://", "");
    let _only =
        pair.mesh.authorization_policy("only-client").rules(source(json!({"principals": [principal]}))).create();
    wait_refused(&stranger, pair.server.addr(8080));

    let server = pair.server.ip().to_string();
    let names = [(&pair.client, "demo/client"), (&stranger, "elsewhere/stranger")];
    // Both agents know the policies, and the server's enforces them.
    for agent in [&pair.agent_a, &pair.agent_b] {
        eventually(DEADLINE, "the agent has read the policy", || {
            agent.get("/config_dump").contains("\"only-client\"").then_some(())
        });
        for (site, from) in names {
            for port in [8080, 9090] {
                let reached = try_exchange(site, pair.server.addr(port)).is_ok();
                let port = port.to_string();
                let (code, text, error) = explain(agent, &["--from", from, "--to", "demo/server", "--port", &port]);
                assert_eq!(code, Some(if reached { 0 } else { 1 }), "{from} {port}: {text}{error}");
                assert!(text.contains("ALLOW demo/only-client"), "{text}");
            }
        }
    }
    let identity = pair.client.identity();
    let as_json = ["--from-identity", &identity, "--to", &server, "--port", "8080", "-o", "json"];
    let (code, text, _) = explain(&pair.agent_b, &as_json);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &answer["allowed"], &answer["reason"]), (Some(0), &json!(true), &json!("allow_rule")));
    assert_eq!(answer["policies"][0]["rules"][0]["matches"], true);

    for (arguments, expected) in [
        (["--from", "demo/nobody", "--to", "demo/server", "--port", "80"], "no pod demo/nobody"),
        (["--from", "nobody", "--to", "demo/server", "--port", "80"], "not of the form"),
        (["--from-ip", "10.0.0.1", "--to", "demo/server", "--admin-addr", "127.0.0.1:9"], "--port"),
    ] {
        let (code, _, error) = explain(&pair.agent_b, &arguments);
        assert!(code == Some(2) && error.contains(expected), "{arguments:?}: {code:?} {error}");
    }
    let away = ["--from", "demo/client", "--to", "demo/server", "--port", "80", "--admin-addr", "127.0.0.1:9"];
    let (code, _, error) = explain(&pair.agent_b, &away);
    assert!(code == Some(3) && error.contains("no agent answers at 127.0.0.1:9"), "{code:?} {error}");
    let dump: Value = serde_json::from_str(&pair.agent_b.get("/config_dump")).unwrap();
    let policy = &dump["authorizationPolicies"][0];
    assert_eq!(
        (&policy["name"], &policy["action"], &policy["rules"]),
        (&json!("only-client"), &json!("ALLOW"), &json!(1))
    );
}
