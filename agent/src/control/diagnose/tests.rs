//! Questions and their answers.

use std::net::IpAddr;

use super::answer::{Answer, NoAnswer, answer};
use super::question::{Client, Question, QuestionError, Server};
use crate::mesh::source::convert::mesh::{Objects, Rules, mesh};
use crate::mesh::source::objects::kind::{Kind, Object};
use crate::model::identity::TrustDomain;
use crate::model::policy::evaluate::evaluate;
use crate::model::policy::rule::Request;
use crate::model::view::MeshView;
use crate::model::workload::ObjectName;
use serde::de::DeserializeSeed as _;
use serde_json::{Value, json};

fn pod(name: &str, ips: [&str; 2], enrolled: bool) -> Value {
    let mode = if enrolled { "ambient" } else { "none" };
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "demo", "labels": {"app": name, "istio.io/dataplane-mode": mode}},
        "spec": {"serviceAccountName": name, "nodeName": "a"},
        "status": {"podIPs": ips.map(|ip| json!({"ip": ip})), "phase": "Running"}})
}

fn view() -> MeshView {
    let policy = |kind: &str, namespace: &str, name: &str, spec: Value| {
        json!({"apiVersion": "security.istio.io/v1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace}, "spec": spec})
    };
    let server = json!({"matchLabels": {"app": "server"}});
    let manifests = [
        pod("client", ["10.0.0.1", "fd00::1"], true),
        pod("server", ["10.0.0.2", "fd00::2"], true),
        pod("plain", ["10.0.0.3", "fd00::3"], false),
        policy("PeerAuthentication", "istio-system", "mesh", json!({"mtls": {"mode": "STRICT"}})),
        policy(
            "PeerAuthentication",
            "demo",
            "open",
            json!({"selector": server, "portLevelMtls": {"9090": {"mode": "PERMISSIVE"}}}),
        ),
        policy(
            "AuthorizationPolicy",
            "demo",
            "only-client",
            json!({"selector": server,
            "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/demo/sa/client"]}}]}, {"to": [{"operation": {"ports": ["9090"]}}]}]}),
        ),
        policy(
            "AuthorizationPolicy",
            "demo",
            "wrong",
            json!({"selector": {"matchLabels": {"app": "client"}}, "action": "DENY",
            "rules": [{"nonsense": 1}]}),
        ),
    ];
    let object = |manifest: &Value| {
        let text = |key: &str| manifest[key].as_str().unwrap();
        Kind::resolve(text("apiVersion"), text("kind")).unwrap().unwrap().deserialize(manifest).unwrap()
    };
    let objects: Vec<Object> = manifests.iter().map(object).collect();
    let mut sorted = Objects::default();
    objects.iter().for_each(|object| sorted.add(object));
    mesh(&sorted, &Rules::default()).view
}

fn ask(query: &str) -> Result<Answer, String> {
    let question = Question::parse(query).map_err(|error| error.to_string())?;
    assert_eq!(Question::parse(&question.to_query()).as_ref(), Ok(&question), "{query}");
    answer(&view(), &TrustDomain::default(), &question).map_err(|error| error.to_string())
}

#[test]
fn answers_are_the_evaluators_and_say_who_decided() {
    let rows = [
        ("from=demo/client&to=demo/server&port=80", "allow_rule", "10.0.0.1"),
        ("from=demo/client&to=fd00::2&port=80", "allow_rule", "fd00::1"),
        ("from=demo/plain&to=demo/server&port=80", "strict_mtls", "10.0.0.3"),
        ("from=demo/plain&to=demo/server&port=9090", "allow_rule", "10.0.0.3"),
        ("from-ip=192.0.2.1&to=demo/server&port=80", "strict_mtls", "192.0.2.1"),
        ("from-ip=2001:db8::1&to=demo/server&port=9090", "allow_rule", "2001:db8::1"),
        ("from-identity=spiffe://cluster.local/ns/shop/sa/cart&to=demo/server&port=80", "no_allow_rule", "0.0.0.0"),
        ("from-identity=spiffe://cluster.local/ns/demo/sa/client&to=demo/server&port=80", "allow_rule", "10.0.0.1"),
        ("from=demo/server&to=demo/client&port=80", "invalid_policy", "10.0.0.2"),
        ("from-ip=192.0.2.1&to=demo/plain&port=80", "not_enforced", "192.0.2.1"),
    ];
    for (query, reason, from) in rows {
        let answer = ask(query).unwrap();
        assert_eq!((answer.reason.as_str(), answer.source.ip), (reason, from.parse().unwrap()), "{query}");
        assert_eq!(answer.allowed, matches!(reason, "allow_rule" | "not_enforced"), "{query}");
        if reason == "not_enforced" {
            continue;
        }
        let identity = answer.source.identity.as_ref().map(|identity| identity.parse().unwrap());
        let pod = answer.destination.pod.as_ref().unwrap();
        let (namespace, name) = pod.split_once('/').unwrap();
        let policies = view().policies_of(&ObjectName::new(namespace, name)).unwrap();
        let to = (answer.destination.ip, answer.destination.port.unwrap()).into();
        let verdict = evaluate(&policies, &Request::new(identity, answer.source.ip, to));
        assert_eq!((answer.verdict, answer.allowed), (verdict.to_string(), verdict.allowed()), "{query}");
    }
}

#[test]
fn people_read_what_decided_and_what_was_missing() {
    let text =
        ask("from-identity=spiffe://cluster.local/ns/shop/sa/cart&from-ip=10.9.9.9&to=demo/server&port=80").unwrap();
    let expected = "\
denied by demo/only-client: no rule of the ALLOW policies matches

from        no pod of the mesh, 10.9.9.9, spiffe://cluster.local/ns/shop/sa/cart
to          demo/server on a, 10.0.0.2:80, spiffe://cluster.local/ns/demo/sa/server
mutual TLS  STRICT, by istio-system/mesh (mesh)
policies    ALLOW demo/only-client  <- decides
              rule 0 does not match: from: source principal is not cluster.local/ns/demo/sa/client
              rule 1 does not match: to: destination port is not 9090
notes       probes of the node's own kubelet are let in whatever policies say
";
    assert_eq!(text.to_string(), expected);
    let strict = ask("from=demo/plain&to=demo/server&port=80").unwrap();
    assert!(strict.verdict.starts_with("denied by istio-system/mesh"), "{}", strict.verdict);
    assert!(!strict.policies.iter().any(|policy| policy.decides));
    assert!(strict.to_string().contains("does not belong to the mesh: it connects in clear text"));
    let port = ask("from=demo/plain&to=demo/server&port=9090").unwrap();
    assert_eq!((port.mtls.mode.as_str(), port.mtls.level.as_str()), ("PERMISSIVE", "port"));
    let invalid = ask("from=demo/server&to=demo/client&port=80").unwrap().to_string();
    assert!(invalid.contains("DENY demo/wrong (wrong, so it fails closed)  <- decides"), "{invalid}");
}

#[test]
fn what_makes_no_sense_is_told_with_its_field() {
    let long = format!("to=demo/{}&port=1", "x".repeat(5000));
    let rows = [
        ("", "from: is missing"),
        ("from=demo/client", "to: is missing"),
        ("from=demo/client&to=demo/server", "port: is missing"),
        ("from=client&to=demo/server&port=1", "from: \"client\" is not of the form NAMESPACE/POD"),
        ("from=a/b/c&to=demo/server&port=1", "is not of the form"),
        ("from=demo/client&to=demo/server&port=0", "port: \"0\" is not a port"),
        ("from=demo/client&to=demo/server&port=65536", "is not a port"),
        ("from=demo/client&from=demo/plain&to=demo/server&port=1", "from: is given twice"),
        ("from=demo/client&from-identity=spiffe://td/ns/a/sa/b&to=demo/server&port=1", "exclude each other"),
        ("from-identity=td/ns/a/sa/b&to=demo/server&port=1", "from-identity: "),
        ("from-ip=1.2.3&to=demo/server&port=1", "from-ip: \"1.2.3\" is not an IP address"),
        ("colour=red&from=demo/client&to=demo/server&port=1", "\"colour\" is not a part"),
        ("from=demo/nobody&to=demo/server&port=1", "from: no pod demo/nobody is known here"),
        ("from=demo/client&to=192.0.2.7&port=1", "to: no pod with the address 192.0.2.7"),
        ("from-identity=spiffe://other/ns/a/sa/b&to=demo/server&port=1", "another trust domain"),
        ("from-ip=%00%ff&to=demo/server&port=1", "is not an IP address"),
        ("from=%0a%0d/%00&to=demo/server&port=1", "no pod"),
        (&long, "at most 4096"),
    ];
    for (query, expected) in rows {
        let error = ask(query).unwrap_err();
        assert!(error.contains(expected), "{query}: {error}");
        assert!(error.len() < 400, "{error}");
    }
}

#[test]
fn no_query_does_harm() {
    let mut rng = fastrand::Rng::with_seed(7);
    let words = [
        "from",
        "to",
        "port",
        "=",
        "&",
        "demo/client",
        "%",
        "%00",
        "%zz",
        "::",
        "10.0.0.2",
        "\u{ffff}",
        "65536",
        "spiffe://",
        "/",
    ];
    for _ in 0..20_000 {
        let query: String = (0..rng.usize(..12)).map(|_| rng.choice(words).unwrap()).collect();
        if let Ok(question) = Question::parse(&query) {
            let _any: Result<_, NoAnswer> = answer(&MeshView::default(), &TrustDomain::default(), &question);
        }
    }
}

#[test]
fn a_question_survives_the_way_to_the_agent() {
    let question = Question {
        from: Client::Nobody,
        from_ip: Some(IpAddr::from([10, 0, 0, 1])),
        to: Server::Pod(ObjectName::new("a&b", "c=d e/f")),
        port: 1,
    };
    // Such a name is none, but it stays one value.
    let error = Question::parse(&question.to_query()).unwrap_err();
    assert!(matches!(error, QuestionError::Field { field: "to", .. }), "{error}");
}
