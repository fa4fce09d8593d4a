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

fn rows(client: &Pod, server: &Pod, strangers: &[&Pod]) -> Vec<Row> {
    let (a, b) = (8080, 9090);
    let principal = client.identity().replace("spiffe://", "");
    let ips = json!([client.ip().to_string(), client.ip6().to_string()]);
    let server = json!([server.ip().to_string(), server.ip6().to_string()]);
    let not_client: Vec<String> =
        strangers.iter().flat_map(|pod| [pod.ip(), pod.ip6()]).map(|ip| ip.to_string()).collect();
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
        only_client("serviceAccounts of another namespace", source(json!({"serviceAccounts": ["demo/client"]}))),
        Row {
            about: "notServiceAccounts",
            action: "DENY",
            rules: source(json!({"notServiceAccounts": ["client"]})),
            refused: [("other", a), ("stranger", a)],
            reached: [("client", a), ("client", b)],
        },
        Row {
            about: "notRemoteIpBlocks",
            action: "ALLOW",
            rules: source(json!({"notRemoteIpBlocks": ips})),
            refused: [("client", a), ("client", b)],
            reached: [("other", a), ("stranger", a)],
        },
        only_client("namespaces by prefix and suffix", source(json!({"namespaces": ["de*", "*nothing"]}))),
        only_client(
            "notValues",
            json!([{"when": [{"key": "source.ip", "values": ["0.0.0.0/0", "::/0"], "notValues": not_client}]}]),
        ),
        Row {
            about: "destination.ip",
            action: "DENY",
            rules: json!([{"to": [{"operation": {"ports": ["9090"]}}], "when": [{"key": "destination.ip", "values": server}]}]),
            refused: [("client", b), ("stranger", b)],
            reached: [("other", a), ("client", a)],
        },
        only_client(
            "destination.ip that is another's",
            json!([
                {"when": [{"key": "destination.ip", "values": ["192.0.2.1"]}]},
                {"from": [{"source": {"namespaces": ["demo"]}}], "when": [{"key": "destination.ip", "notValues": ["192.0.2.1"]}]},
            ]),
        ),
        only_client(
            "source.serviceAccount",
            json!([{"when": [{"key": "source.serviceAccount", "values": ["demo/client"]}]}]),
        ),
        only_client("remote.ip", json!([{"when": [{"key": "remote.ip", "values": ips}]}])),
        Row {
            about: "an ALLOW rule with HTTP attributes allows nothing",
            action: "ALLOW",
            rules: json!([{"to": [{"operation": {"methods": ["GET"]}}]}, {"to": [{"operation": {"ports": ["9090"]}}]}]),
            refused: [("client", a), ("stranger", a)],
            reached: [("client", b), ("other", b)],
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
    for (number, row) in rows(&pair.client, &pair.server, &[&other, &stranger]).into_iter().enumerate() {
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
