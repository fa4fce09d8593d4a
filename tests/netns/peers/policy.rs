//! Who may talk to whom, on real connections.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harness::{Agent, Conn, DEADLINE, Mesh, Pod, Site, eventually};
use serde_json::{Value, json};

use crate::fixture::Pair;

/// What a refused client may wait for its reset.
const PROMPT: Duration = Duration::from_secs(5);

/// One exchange with the echo server at `address`.
fn try_exchange(site: &Site, address: SocketAddr) -> io::Result<()> {
    let conn = site.try_connect(address, PROMPT)?.with_deadline(PROMPT);
    let mut stream = conn.stream();
    stream.write_all(b"ping")?;
    let mut echo = [0; 4];
    stream.read_exact(&mut echo)
}

/// Waits until connections get through.
#[track_caller]
fn wait_reached(site: &Site, address: SocketAddr) {
    eventually(DEADLINE, &format!("{address} is reached"), || try_exchange(site, address).ok());
}

/// Waits until connections fail as those to a closed port do.
#[track_caller]
fn wait_refused(site: &Site, address: SocketAddr) {
    eventually(DEADLINE, &format!("{address} is refused"), || match try_exchange(site, address) {
        Ok(()) => None,
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => Some(()),
        Err(error) => panic!("{error} instead of a refusal at {address}"),
    });
}

/// Waits for the access-log line of a refusal, by the client's address, and for its count.
#[track_caller]
fn wait_told(agent: &Agent, from: &Pod, policy: &str, reason: &str) {
    let (v4, v6) = (format!("{}:", from.ip()), format!("[{}]:", from.ip6()));
    agent.wait_access(&format!("{reason} by {policy}"), |entry| {
        let source = entry.field("src.addr");
        let is_from = source.starts_with(&v4) || source.starts_with(&v6);
        is_from && entry.field("policy") == policy && entry.field("reason") == reason
    });
    let labels = [("action", "denied"), ("policy", policy), ("reason", reason)];
    assert!(agent.metrics().sum("sotto_policy_refusals_total", &labels) >= 1.0, "{labels:?} is counted");
}

#[test]
fn strict_takes_tunnels_and_refuses_clear_text() {
    let Some(pair) = Pair::enrolled("strict_takes_tunnels_and_refuses_clear_text") else { return };
    let stranger = pair.a.pod("stranger").namespace("elsewhere").start();
    pair.server.serve_echo(8080);
    pair.server.serve_echo(9090);
    let [v4, v6, open] = [pair.server.addr(8080), pair.server.addr6(8080), pair.server.addr(9090)];
    wait_reached(&stranger, v4);

    let mesh_wide = pair.mesh.peer_authentication("strict").namespace("istio-system").mode("STRICT").create();
    wait_refused(&stranger, v4);
    wait_refused(&stranger, v6);
    let capture = pair.mesh.capture();
    pair.client.connect(v4).exchange("hello");
    pair.client.connect(v6).exchange("hello");
    capture.stop().assert_tls13();
    wait_told(&pair.agent_b, &stranger, "istio-system/strict", "strict_mtls");
    let refused = pair.agent_b.metrics().sum(
        "istio_tcp_connections_failed_total",
        &[("reporter", "destination"), ("response_flags", "DENY"), ("destination_workload", "server")],
    );
    assert!(refused >= 2.0, "{refused}");

    pair.server.label("app", "server");
    let exception = pair.mesh.peer_authentication("one-port").selecting("app", "server");
    let _exception = exception.mode("UNSET").port_mode(9090, "PERMISSIVE").create();
    wait_reached(&stranger, open);
    wait_refused(&stranger, v4);
    mesh_wide.delete();
    wait_reached(&stranger, v4);
}

struct Row {
    about: &'static str,
    action: &'static str,
    rules: Value,
    /// `client`, `other` (of another namespace and service account) or `stranger`, and the port.
    refused: [(&'static str, u16); 2],
    reached: [(&'static str, u16); 2],
}

fn source(source: Value) -> Value {
    json!([{"from": [{"source": source}]}])
}

fn rows(client: &Pod) -> Vec<Row> {
    let (a, b) = (8080, 9090);
    let principal = client.identity().replace("spiffe://", "");
    let ips = json!([client.ip().to_string(), client.ip6().to_string()]);
    let only_client = |about, rules| Row {
        about,
        action: "ALLOW",
        rules,
        refused: [("other", a), ("stranger", a)],
        reached: [("client", a), ("client", b)],
    };
    let all_but_client = |about, rules| Row {
        about,
        action: "DENY",
        rules,
        refused: [("client", a), ("client", b)],
        reached: [("other", a), ("stranger", a)],
    };
    let port = |about, action, rules| Row {
        about,
        action,
        rules,
        refused: [("client", b), ("stranger", b)],
        reached: [("other", a), ("client", a)],
    };
    vec![
        only_client("principals", source(json!({"principals": [principal]}))),
        all_but_client("principals by suffix", source(json!({"principals": ["*/ns/demo/sa/client"]}))),
        only_client("principals by prefix", source(json!({"principals": ["cluster.local/ns/demo/*"]}))),
        all_but_client("namespaces", source(json!({"namespaces": ["demo"]}))),
        only_client("serviceAccounts", source(json!({"serviceAccounts": ["client"]}))),
        all_but_client("ipBlocks", source(json!({"ipBlocks": ips}))),
        only_client("remoteIpBlocks", source(json!({"remoteIpBlocks": ips}))),
        Row {
            about: "any principal",
            action: "ALLOW",
            rules: source(json!({"principals": ["*"]})),
            refused: [("stranger", a), ("stranger", b)],
            reached: [("client", a), ("other", a)],
        },
        Row {
            about: "notPrincipals",
            action: "DENY",
            rules: source(json!({"notPrincipals": [principal]})),
            refused: [("other", a), ("stranger", a)],
            reached: [("client", a), ("client", b)],
        },
        Row {
            about: "notNamespaces",
            action: "ALLOW",
            rules: source(json!({"notNamespaces": ["demo"]})),
            refused: [("client", a), ("client", b)],
            reached: [("other", a), ("stranger", a)],
        },
        Row {
            about: "notIpBlocks",
            action: "DENY",
            rules: source(json!({"notIpBlocks": ips})),
            refused: [("other", a), ("stranger", a)],
            reached: [("client", a), ("client", b)],
        },
        port("ports", "DENY", json!([{"to": [{"operation": {"ports": ["9090"]}}]}])),
        port("notPorts", "ALLOW", json!([{"to": [{"operation": {"notPorts": ["9090"]}}]}])),
        port("destination.port", "ALLOW", json!([{"when": [{"key": "destination.port", "values": ["8080"]}]}])),
        only_client("source.ip", json!([{"when": [{"key": "source.ip", "values": ips}]}])),
        all_but_client("source.namespace", json!([{"when": [{"key": "source.namespace", "values": ["demo"]}]}])),
        only_client("source.principal", json!([{"when": [{"key": "source.principal", "values": [principal]}]}])),
        Row {
            about: "HTTP attributes do not keep DENY from the rest of its rule",
            action: "DENY",
            rules: json!([{"to": [{"operation": {"ports": ["9090"], "methods": ["POST"]}}]}]),
            refused: [("client", b), ("stranger", b)],
            reached: [("client", a), ("stranger", a)],
        },
    ]
}

#[test]
fn every_attribute_decides_about_real_connections() {
    let Some(pair) = Pair::enrolled("every_attribute_decides_about_real_connections") else { return };
    let other = pair.a.pod("other").namespace("shop").start();
    let stranger = pair.a.pod("stranger").namespace("elsewhere").start();
    pair.mesh.namespace("shop").enrol();
    pair.mesh.wait_enrolled(&[&other]);
    let _servers = [pair.server.serve_echo(8080), pair.server.serve_echo(9090)];
    let site = |name: &str| match name {
        "client" => &pair.client,
        "other" => &other,
        _ => &stranger,
    };
    let mut policy = pair.mesh.authorization_policy("row").create();
    for (number, row) in rows(&pair.client).into_iter().enumerate() {
        policy.change(row.action, row.rules);
        let address = |port| if number % 2 == 0 { pair.server.addr(port) } else { pair.server.addr6(port) };
        // What was there before may have refused the same: only all four together show that the policy has been read.
        let wanted = row.refused.map(|who| (who, false)).into_iter().chain(row.reached.map(|who| (who, true)));
        let wanted: Vec<_> = wanted.collect();
        eventually(DEADLINE, row.about, || {
            let as_wanted = |((who, port), reached): &((&str, u16), bool)| {
                try_exchange(site(who), address(*port)).is_ok() == *reached
            };
            wanted.iter().all(as_wanted).then_some(())
        });
    }
    policy.delete();
    for who in ["client", "other", "stranger"] {
        wait_reached(site(who), pair.server.addr(9090));
    }
}

/// Connections that have carried something.
fn open(from: &Pod, to: SocketAddr, count: usize) -> Vec<Conn> {
    let open = |_| {
        let mut conn = from.connect(to);
        conn.exchange("hello");
        conn
    };
    (0..count).map(open).collect()
}

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

#[test]
fn pods_of_one_node_are_kept_apart_too() {
    let Some(mesh) = Mesh::new("pods_of_one_node_are_kept_apart_too") else { return };
    let node = mesh.node("a");
    let [client, other, server] = ["client", "other", "server"].map(|name| node.pod(name).start());
    mesh.namespace("demo").enrol();
    let agent = node.start_agent();
    mesh.wait_enrolled(&[&client, &other, &server]);
    server.serve_echo(8080);
    let to = server.addr(8080);
    // The agent knows both of them: STRICT is met without a tunnel.
    let _strict = mesh.peer_authentication("strict").mode("STRICT").create();
    let mut forbidden = open(&client, to, 2);
    let mut kept = open(&other, to, 2);

    let principal = client.identity().replace("spiffe://", "");
    let policy =
        mesh.authorization_policy("no-client").action("DENY").rules(source(json!({"principals": [principal]})));
    let policy = policy.create();
    forbidden.iter_mut().for_each(Conn::expect_reset);
    kept.iter_mut().for_each(|conn| conn.exchange("still here"));
    wait_refused(&client, to);
    wait_refused(&client, server.addr6(8080));
    wait_told(&agent, &client, &policy.name(), "deny_rule");
    try_exchange(&other, to).unwrap();
}

#[test]
fn a_wrong_policy_keeps_the_last_good_one_or_fails_closed() {
    let Some(pair) = Pair::enrolled("a_wrong_policy_keeps_the_last_good_one_or_fails_closed") else { return };
    let other = pair.a.pod("other").start();
    pair.mesh.wait_enrolled(&[&other]);
    pair.server.serve_echo(8080);
    let to = pair.server.addr(8080);
    let principal = pair.client.identity().replace("spiffe://", "");
    let mut policy = pair.mesh.authorization_policy("only-client");
    policy = policy.rules(source(json!({"principals": [principal]})));
    let mut policy = policy.create();
    wait_refused(&other, to);

    policy.change("ALLOW", source(json!({"principal": [principal]})));
    pair.agent_b.wait_log("object, field and fix", |text| {
        let told =
            ["demo/only-client", "spec.rules[0].from[0].source.principal", "known are principals", "keeps serving"];
        told.iter().all(|part| text.contains(part))
    });
    try_exchange(&pair.client, to).unwrap();
    wait_refused(&other, to);
    policy.change("ALLOW", json!([{}]));
    wait_reached(&other, to);

    let new = pair.mesh.authorization_policy("new").action("DENY");
    let new = new.rules(source(json!({"ipBlocks": ["10.0.0.0/99"]}))).create();
    wait_refused(&pair.client, to);
    wait_told(&pair.agent_b, &pair.client, "demo/new", "invalid_policy");
    new.delete();
    wait_reached(&pair.client, to);
}
