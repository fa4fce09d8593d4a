//! What operators ask of running agents, and what they change.

use std::process::Output;

use harness::{Agent, DEADLINE, eventually};
use serde_json::{Value, json};

use crate::fixture::Pair;

/// The exit status, and standard output and error.
fn run(agent: &Agent, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = agent.ask(arguments);
    (status.code(), String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

fn json_of(agent: &Agent, arguments: &[&str]) -> Value {
    let (code, text, error) = run(agent, &[arguments, &["-o", "json"]].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {text}{error}");
    serde_json::from_str(&text).unwrap_or_else(|problem| panic!("{arguments:?}: {problem}: {text}"))
}

/// The connections that fit, each as its direction, protocol and bytes from and to the client.
fn connections(agent: &Agent, filter: &[&str]) -> Vec<(String, String, u64, u64)> {
    let found = json_of(agent, &[&["connections"], filter].concat());
    let line = |line: &Value| {
        let text = |field: &str| line[field].as_str().unwrap().to_owned();
        let number = |field: &str| line[field].as_u64().unwrap();
        (text("direction"), text("protocol"), number("bytesFromSource"), number("bytesFromDestination"))
    };
    let mut lines: Vec<_> = found["connections"].as_array().unwrap().iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn open_connections_are_shown_from_both_sides_while_they_last() {
    // What the kernel carries straight from pod to pod is not the agent's to show.
    let relay = Some(("--same-node", "relay"));
    let test = "open_connections_are_shown_from_both_sides_while_they_last";
    let Some(pair) = Pair::with_agent_argument(test, relay) else { return };
    pair.enrol();
    let neighbour = pair.a.pod("neighbour").start();
    pair.mesh.wait_enrolled(&[&neighbour]);
    pair.server.serve_echo(8080);
    neighbour.serve_echo(9090);
    let mut far = pair.client.connect(pair.server.addr(8080));
    far.exchange("twelve bytes");
    let mut near = pair.client.connect(neighbour.addr(9090));
    near.exchange("four");

    let entry = |direction: &str, protocol: &str, bytes| (direction.to_owned(), protocol.to_owned(), bytes, bytes);
    let tunnel = |direction| entry(direction, "sotto/1", 12);
    let same = |direction| entry(direction, "same-node", 4);
    eventually(DEADLINE, "all bytes are counted", || {
        let all = connections(&pair.agent_a, &[]);
        (all == [same("inbound"), same("outbound"), tunnel("outbound")]).then_some(())
    });
    assert_eq!(connections(&pair.agent_b, &[]), [tunnel("inbound")]);
    let server_ip = pair.server.ip().to_string();
    for (filter, expected) in [
        (vec!["--pod", "demo/client", "--port", "8080"], vec![tunnel("outbound")]),
        (vec!["--direction", "inbound"], vec![same("inbound")]),
        (vec!["--peer", &server_ip], vec![tunnel("outbound")]),
        (vec!["--peer", "demo/neighbour", "-n", "demo"], vec![same("outbound")]),
        (vec!["-n", "elsewhere"], vec![]),
    ] {
        assert_eq!(connections(&pair.agent_a, &filter), expected, "{filter:?}");
    }
    let one = json_of(&pair.agent_b, &["connections"])["connections"][0].clone();
    assert_eq!(
        (&one["source"]["identity"], &one["source"]["pod"]),
        (&json!(pair.client.identity()), &json!("demo/client"))
    );
    assert_eq!(one["destination"]["address"], pair.server.addr(8080).to_string());
    // Page by page.
    let first = json_of(&pair.agent_a, &["connections", "--limit", "2"]);
    let next = first["next"].as_str().unwrap();
    let rest = json_of(&pair.agent_a, &["connections", "--after", next]);
    assert_eq!((first["connections"].as_array().unwrap().len(), rest["connections"].as_array().unwrap().len()), (2, 1));
    let (code, text, _) = run(&pair.agent_a, &["connections", "--watch", "100ms", "--count", "2"]);
    assert!(code == Some(0) && text.matches("PROTOCOL").count() == 2 && text.contains("demo/neighbour"), "{text}");

    drop((far, near));
    eventually(DEADLINE, "they are gone with their connections", || {
        [&pair.agent_a, &pair.agent_b].iter().all(|agent| connections(agent, &[]).is_empty()).then_some(())
    });
}

#[test]
fn lists_and_status_say_how_it_is_and_scripts_can_tell() {
    let Some(pair) = Pair::enrolled("lists_and_status_say_how_it_is_and_scripts_can_tell") else { return };
    let agent = &pair.agent_a;
    let pods = json_of(agent, &["pods"]);
    assert_eq!((&pods[0]["name"], &pods[0]["enrolled"]), (&json!("client"), &json!(true)));
    let certificates = json_of(agent, &["certificates"]);
    assert_eq!(
        (&certificates[0]["identity"], &certificates[0]["state"]),
        (&json!(pair.client.identity()), &json!("Available"))
    );
    let (code, text, _) = run(agent, &["status"]);
    assert!(code == Some(0) && text.contains("  ready\n") && text.contains("1 carried\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours without a terminal: {text:?}");
    let (code, text, _) = run(agent, &["pods", "--mesh"]);
    assert!(code == Some(0) && text.contains("client") && text.contains("server"), "{text}");
    let (code, text, _) = run(agent, &["check", "--standalone", "--post-install"]);
    assert!(code == Some(0) && text.contains("the kernel takes all") && text.contains("none lost"), "{text}");
    let (code, text, _) = run(agent, &["config-dump", "--section", "policies"]);
    let dump: Value = serde_json::from_str(&text).unwrap();
    assert!(code == Some(0) && dump["workloads"].is_null() && dump["authorizationPolicies"].is_array(), "{text}");

    // A pod that cannot join is a finding.
    let mut lost = pair.client.object();
    lost["metadata"]["name"] = "lost".into();
    lost["metadata"]["uid"] = "the-uid-of-lost".into();
    lost["metadata"]["annotations"]["sotto.dev/netns"] = "/run/netns/nowhere".into();
    lost["status"] = json!({"phase": "Running", "podIP": "10.201.1.99"});
    pair.mesh.write_manifest("lost.yaml", &lost.to_string());
    eventually(DEADLINE, "the pod that is lost is a finding", || (run(agent, &["pods"]).0 == Some(1)).then_some(()));
    for (command, expected) in [("status", "1 waiting"), ("pods", "/run/netns/nowhere")] {
        let (code, text, _) = run(agent, &[command]);
        assert!(code == Some(1) && text.contains(expected), "{command}: {text}");
    }
    let (code, text, _) = run(agent, &["explain", "--from", "demo/lost", "--to", "demo/server", "--port", "80"]);
    assert!(code == Some(1) && text.starts_with("stops at enrolment: demo/lost is not carried yet"), "{text}");
    let (code, text, _) = run(agent, &["check", "--standalone", "--post-install"]);
    assert!(code == Some(1) && text.contains("FAIL  pods"), "{text}");

    for (arguments, expected, status) in [
        (vec!["status", "--admin-addr", "127.0.0.1:9"], "no agent answers at 127.0.0.1:9", 3),
        (vec!["check", "--standalone", "--post-install", "--admin-addr", "127.0.0.1:9"], "no agent answers", 3),
        (vec!["connections", "--pod", "client"], "--pod: \"client\" is not NAMESPACE/POD", 2),
        (vec!["connections", "--limit", "0"], "--limit", 2),
        (vec!["config-dump", "--section", "x"], "--section", 2),
        (vec!["log-level", "loud"], "\"loud\" is no log level", 2),
    ] {
        let (code, _, error) = run(agent, &arguments);
        assert!(code == Some(status) && error.contains(expected), "{arguments:?}: {code:?} {error}");
    }
}

#[test]
fn what_is_logged_changes_while_the_agent_runs() {
    let Some(pair) = Pair::enrolled("what_is_logged_changes_while_the_agent_runs") else { return };
    pair.server.serve_echo(8080);
    let connect = || {
        let mut conn = pair.client.connect(pair.server.addr(8080));
        conn.exchange("hello");
        let port = conn.local_addr().port();
        drop(conn);
        port
    };
    let logged = |port: u16| {
        pair.agent_a.access_log().iter().any(|entry| entry.field("src.addr").ends_with(&format!(":{port}")))
    };
    let first = connect();
    eventually(DEADLINE, "the connection is logged", || logged(first).then_some(()));

    let (code, text, _) = run(&pair.agent_a, &["log-level", "access=off", "sotto::drivers::admin=debug"]);
    assert!(code == Some(0) && text.contains("access=off") && text.contains("(started with "), "{text}");
    let second = connect();
    eventually(DEADLINE, "the connection has ended", || connections(&pair.agent_a, &[]).is_empty().then_some(()));
    let (code, text, _) = run(&pair.agent_a, &["log-level", "--reset"]);
    assert!(code == Some(0) && !text.contains("access=off"), "{text}");
    let third = connect();
    eventually(DEADLINE, "the connection after that is logged", || logged(third).then_some(()));
    assert!(!logged(second), "{}", pair.agent_a.log());
    pair.agent_a.wait_log("who asked for what", |line| line.contains("what is logged has been changed"));

    // All of a change or nothing.
    let before = json_of(&pair.agent_a, &["log-level"]);
    let (code, _, _) = run(&pair.agent_a, &["log-level", "debug", "x=loud"]);
    assert_eq!((code, json_of(&pair.agent_a, &["log-level"])), (Some(2), before));
}

/// What README.md shows is what the commands print.
#[test]
fn the_readme_shows_what_commands_print() {
    let Some(pair) = Pair::enrolled("the_readme_shows_what_commands_print") else { return };
    let batch = pair.a.pod("batch").start();
    batch.opt_out();
    pair.server.serve_echo(8080);
    let database = pair.mesh.service("db").port(5432, 8080).selector("app", "server").create();
    let rules = json!([{ "from": [{ "source": { "principals": ["cluster.local/ns/demo/sa/client"] } }] }]);
    let _only = pair.mesh.authorization_policy("only-client").rules(rules).create();
    for agent in [&pair.agent_a, &pair.agent_b] {
        eventually(DEADLINE, "the agent has read all of it", || {
            let known = agent.get("/config_dump");
            (known.contains("\"only-client\"") && known.contains("\"batch\"") && known.contains("5432")).then_some(())
        });
    }
    let mut conn = pair.client.connect(database.addr(5432));
    conn.exchange("x".repeat(3000));
    let mut connections = String::new();
    eventually(DEADLINE, "it has been open for a second", || {
        connections = run(&pair.agent_a, &["connections"]).1;
        connections.contains("2.9K  2.9K  1s").then_some(())
    });

    let readme = include_str!("../../../README.md");
    let explain = ["explain", "--from", "demo/batch", "--to", "svc/demo/db", "--port", "5432"];
    for (command, text) in [
        (&["pods"][..], run(&pair.agent_a, &["pods"]).1),
        (&["connections"], connections),
        (&explain, run(&pair.agent_a, &explain).1),
    ] {
        // Nodes of a test have names of their own.
        let text = [(&pair.client, "a"), (&pair.server, "b")]
            .into_iter()
            .fold(text, |text, (pod, node)| text.replace(pod.object()["spec"]["nodeName"].as_str().unwrap(), node));
        let shown = format!("$ sotto {}\n{text}", command.join(" "));
        assert!(readme.contains(&shown), "README.md does not show:\n{shown}");
    }
}
