//! Every attribute of a rule, on real connections.

use harness::{DEADLINE, Pod, eventually};
use serde_json::{Value, json};

use super::attempts::{source, try_exchange, wait_reached};
use crate::fixture::Pair;

struct Row {
    about: &'static str,
    action: &'static str,
    rules: Value,
    /// `client`, `other` (of another namespace and service account) or `stranger`, and the port.
    refused: [(&'static str, u16); 2],
    reached: [(&'static str, u16); 2],
}

const A: u16 = 8080;
const B: u16 = 9090;

/// What rules name.
struct World {
    principal: String,
    client: [String; 2],
    server: [String; 2],
    strangers: Vec<String>,
}

fn addresses(pod: &Pod) -> [String; 2] {
    [pod.ip(), pod.ip6()].map(|ip| ip.to_string())
}

/// Two of the client get in and nobody else does.
fn only_client(about: &'static str, rules: Value) -> Row {
    let (refused, reached) = ([("other", A), ("stranger", A)], [("client", A), ("client", B)]);
    Row { about, action: "ALLOW", rules, refused, reached }
}

/// Only the client is kept out.
fn all_but_client(about: &'static str, action: &'static str, rules: Value) -> Row {
    let (refused, reached) = ([("client", A), ("client", B)], [("other", A), ("stranger", A)]);
    Row { about, action, rules, refused, reached }
}

/// One port is closed to all.
fn only_port(about: &'static str, action: &'static str, rules: Value) -> Row {
    let (refused, reached) = ([("client", B), ("stranger", B)], [("other", A), ("client", A)]);
    Row { about, action, rules, refused, reached }
}

fn denied_but_client(about: &'static str, rules: Value) -> Row {
    Row { action: "DENY", ..only_client(about, rules) }
}

fn when(key: &str, values: impl Into<Value>) -> Value {
    json!([{"when": [{"key": key, "values": values.into()}]}])
}

impl World {
    fn new(pair: &Pair, strangers: &[&Pod]) -> Self {
        Self {
            principal: pair.client.identity().replace("spiffe://", ""),
            client: addresses(&pair.client),
            server: addresses(&pair.server),
            strangers: strangers.iter().flat_map(|pod| addresses(pod)).collect(),
        }
    }

    fn rows(&self) -> Vec<Row> {
        [self.sources(), self.negative_sources(), self.conditions(), operations()].into_iter().flatten().collect()
    }

    fn sources(&self) -> Vec<Row> {
        let Self { principal, client, .. } = self;
        vec![
            only_client("principals", source(json!({"principals": [principal]}))),
            all_but_client("principals by suffix", "DENY", source(json!({"principals": ["*/ns/demo/sa/client"]}))),
            only_client("principals by prefix", source(json!({"principals": ["cluster.local/ns/demo/*"]}))),
            Row {
                refused: [("stranger", A), ("stranger", B)],
                reached: [("client", A), ("other", A)],
                ..only_client("any principal", source(json!({"principals": ["*"]})))
            },
            all_but_client("namespaces", "DENY", source(json!({"namespaces": ["demo"]}))),
            only_client("namespaces by prefix and suffix", source(json!({"namespaces": ["de*", "*nothing"]}))),
            only_client("serviceAccounts", source(json!({"serviceAccounts": ["client"]}))),
            only_client("serviceAccounts with their namespace", source(json!({"serviceAccounts": ["demo/client"]}))),
            all_but_client("ipBlocks", "DENY", source(json!({"ipBlocks": client}))),
            only_client("remoteIpBlocks", source(json!({"remoteIpBlocks": client}))),
        ]
    }

    fn negative_sources(&self) -> Vec<Row> {
        let Self { principal, client, .. } = self;
        vec![
            denied_but_client("notPrincipals", source(json!({"notPrincipals": [principal]}))),
            all_but_client("notNamespaces", "ALLOW", source(json!({"notNamespaces": ["demo"]}))),
            denied_but_client("notServiceAccounts", source(json!({"notServiceAccounts": ["client"]}))),
            denied_but_client("notIpBlocks", source(json!({"notIpBlocks": client}))),
            all_but_client("notRemoteIpBlocks", "ALLOW", source(json!({"notRemoteIpBlocks": client}))),
        ]
    }

    fn conditions(&self) -> Vec<Row> {
        let Self { principal, client, server, strangers } = self;
        let anywhere = ["0.0.0.0/0", "::/0"];
        let port_there = json!([{
            "to": [{"operation": {"ports": ["9090"]}}], "when": [{"key": "destination.ip", "values": server}],
        }]);
        let elsewhere = json!([
            {"when": [{"key": "destination.ip", "values": ["192.0.2.1"]}]},
            {"from": [{"source": {"namespaces": ["demo"]}}], "when": [{"key": "destination.ip", "notValues": ["192.0.2.1"]}]},
        ]);
        let not_values = json!([{"when": [{"key": "source.ip", "values": anywhere, "notValues": strangers}]}]);
        vec![
            only_client("source.ip", when("source.ip", client.to_vec())),
            only_client("remote.ip", when("remote.ip", client.to_vec())),
            only_client("notValues", not_values),
            all_but_client("source.namespace", "DENY", when("source.namespace", vec!["demo"])),
            only_client("source.principal", when("source.principal", vec![principal.as_str()])),
            only_client("source.serviceAccount", when("source.serviceAccount", vec!["demo/client"])),
            only_port("destination.ip", "DENY", port_there),
            only_client("destination.ip that is another's, and that is not", elsewhere),
            only_port("destination.port", "ALLOW", when("destination.port", vec!["8080"])),
        ]
    }
}

fn operations() -> Vec<Row> {
    let with_methods = json!([{"to": [{"operation": {"ports": ["9090"], "methods": ["POST"]}}]}]);
    let or_methods =
        json!([{"to": [{"operation": {"methods": ["GET"]}}]}, {"to": [{"operation": {"ports": ["8080"]}}]}]);
    vec![
        only_port("ports", "DENY", json!([{"to": [{"operation": {"ports": ["9090"]}}]}])),
        only_port("notPorts", "ALLOW", json!([{"to": [{"operation": {"notPorts": ["9090"]}}]}])),
        only_port("HTTP attributes do not keep DENY from the rest of its rule", "DENY", with_methods),
        only_port("an ALLOW rule with HTTP attributes allows nothing", "ALLOW", or_methods),
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
    for (number, row) in World::new(&pair, &[&other, &stranger]).rows().into_iter().enumerate() {
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
