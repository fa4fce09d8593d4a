//! Questions and their answers.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::answer::{Answer, Knowledge, NoAnswer, answer};
use super::question::{Client, Question, QuestionError, Server};
use super::step::{Outcome, Stage};
use crate::control::enroll::status::{EnrolmentStatus, PodStatus};
use crate::drivers::certs::store::{CertificateStatus, IssuedCertificate};
use crate::mesh::source::convert::derive::endpoint_slices;
use crate::mesh::source::convert::mesh::{Objects, Rules, mesh};
use crate::mesh::source::objects::kind::{Kind, Object};
use crate::model::identity::TrustDomain;
use crate::model::policy::evaluate::evaluate;
use crate::model::policy::rule::Request;
use crate::model::view::MeshView;
use crate::model::workload::ObjectName;
use serde::de::DeserializeSeed as _;
use serde_json::{Value, json};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

/// What the agent of node a knows: it carries its pods but `late`, and has certificates for all but `new`.
fn with_knowledge<T>(view: &MeshView, ask: impl FnOnce(&Knowledge<'_>) -> T) -> T {
    let here = || view.workloads().filter(|pod| pod.is_enrolled() && *pod.node == *"a");
    let pods = here().map(|pod| PodStatus {
        namespace: pod.pod.namespace.to_string(),
        name: pod.pod.name.to_string(),
        uid: String::new(),
        ips: pod.ips.clone(),
        identity: pod.identity.to_string(),
        netns: None,
        enrolled: *pod.pod.name != *"late",
        waiting_for: (*pod.pod.name == *"late").then(|| "its network namespace is not there".to_owned()),
    });
    let certificates = here().map(|pod| {
        let is_new = *pod.pod.name == *"new";
        let (serial, not_before) = ("1".to_owned(), NOW);
        let certificate = IssuedCertificate { serial, not_before, not_after: NOW + Duration::from_secs(3600) };
        CertificateStatus {
            identity: pod.identity.clone(),
            certificate: (!is_new).then_some(certificate),
            rotations: 0,
            last_error: is_new.then(|| "the authority is away".into()),
        }
    });
    ask(&Knowledge {
        view,
        trust_domain: &TrustDomain::default(),
        node: "a",
        enrolment: &EnrolmentStatus { pods: pods.collect() },
        certificates: &certificates.collect::<Vec<_>>(),
        now: NOW,
    })
}

fn service(name: &str, vip: &str, selector: &str, port: u16, target: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "demo"},
        "spec": {"clusterIP": vip, "selector": {"app": selector}, "ports": [{"port": port, "targetPort": target}]}})
}

fn on(node: &str, mut pod: Value) -> Value {
    pod["spec"]["nodeName"] = node.into();
    pod
}

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
        pod("late", ["10.0.0.4", "fd00::4"], true),
        pod("new", ["10.0.0.5", "fd00::5"], true),
        on("b", pod("far", ["10.0.1.1", "fd00::11"], true)),
        service("web", "10.96.0.1", "server", 80, 8080),
        service("nobody", "10.96.0.2", "nobody", 80, 8080),
        service("far", "10.96.0.3", "far", 80, 8080),
        service("headless", "None", "far", 8080, 8080),
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
    let slices = endpoint_slices(&sorted);
    sorted.endpoint_slices.extend(&slices);
    mesh(&sorted, &Rules::default()).view
}

fn ask(query: &str) -> Result<Answer, String> {
    let question = Question::parse(query).map_err(|error| error.to_string())?;
    assert_eq!(Question::parse(&question.to_query()).as_ref(), Ok(&question), "{query}");
    with_knowledge(&view(), |known| answer(known, &question).map_err(|error| error.to_string()))
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
        assert_eq!(answer.reaches, answer.allowed, "{query}");
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
path        ?    enrolment  no pod that is known here has the identity spiffe://cluster.local/ns/shop/sa/cart
            ok   service    none: 10.0.0.2:80 is the pod demo/server itself
            ok   endpoint   demo/server on a, 10.0.0.2:80
            ?    identity   spiffe://cluster.local/ns/shop/sa/cart, certified on another node; the server has to prove spiffe://cluster.local/ns/demo/sa/server
            ok   tunnel     mutual TLS to 10.0.0.2:15008
            ok   arrival    demo/server is carried by this agent
            STOP policy     denied by demo/only-client: no rule of the ALLOW policies matches
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
        ("from-ip=192.0.2.8&to=192.0.2.7&port=1", "to: no pod with the address 192.0.2.7"),
        ("from=demo/client&to=svc/demo/server&port=1", "to: no service demo/server is known here"),
        ("from=demo/client&to=pod/demo/web&port=1", "to: no pod demo/web is known here"),
        ("from=demo/client&to=web.demo&port=1", "is not of the form NAMESPACE/POD, svc/NAMESPACE/SERVICE"),
        ("from=demo/client&to=headless.demo.svc&port=1", "to: demo/headless has no address for this port"),
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
            let _any: Result<_, NoAnswer> = with_knowledge(&MeshView::default(), |known| answer(known, &question));
        }
    }
}

#[test]
fn a_question_survives_the_way_to_the_agent() {
    let question = Question {
        from: Client::Nobody,
        from_ip: Some(IpAddr::from([10, 0, 0, 1])),
        to: Server::Named(ObjectName::new("a&b", "c=d e/f")),
        port: 1,
    };
    // Such a name is none, but it stays one value.
    let error = Question::parse(&question.to_query()).unwrap_err();
    assert!(matches!(error, QuestionError::Field { field: "to", .. }), "{error}");
}

#[test]
fn a_connection_is_followed_to_where_it_stops() {
    let rows = [
        ("from=demo/client&to=svc/demo/far&port=80", None, "10.0.1.1:8080", "mutual TLS to 10.0.1.1:15008"),
        ("from=demo/client&to=far.demo.svc.cluster.local&port=80", None, "10.0.1.1:8080", "is demo/far, port 80"),
        (
            "from=demo/client&to=demo/headless&port=8080",
            None,
            "10.0.1.1:8080",
            "behind the headless service demo/headless",
        ),
        ("from=demo/client&to=10.96.0.1&port=80", None, "10.0.0.2:8080", "both pods are on a, and no byte leaves it"),
        ("from=demo/client&to=demo/server&port=80", None, "10.0.0.2:80", "certified for another 1h"),
        ("from=demo/client&to=192.0.2.7&port=443", None, "192.0.2.7:443", "passed through as it is, in clear text"),
        ("from=demo/client&to=demo/plain&port=80", None, "10.0.0.3:80", "the destination does not belong to the mesh"),
        ("from=demo/far&to=demo/server&port=9090", None, "10.0.0.2:9090", "the agent of b knows"),
        (
            "from=demo/late&to=demo/far&port=80",
            Some(Stage::Enrolment),
            "10.0.1.1:80",
            "its network namespace is not there",
        ),
        (
            "from=demo/client&to=10.96.0.1&port=81",
            Some(Stage::Service),
            "10.96.0.1:81",
            "service demo/web has no port 81",
        ),
        (
            "from=demo/client&to=demo/nobody&port=80",
            Some(Stage::Endpoint),
            "10.96.0.2:80",
            "does its selector match any pod",
        ),
        ("from=demo/new&to=demo/far&port=80", Some(Stage::Identity), "10.0.1.1:80", "the authority is away"),
        ("from=demo/client&to=demo/far&port=15008", Some(Stage::Tunnel), "10.0.1.1:15008", "belongs to the mesh"),
        ("from=demo/client&to=demo/late&port=80", Some(Stage::Arrival), "10.0.0.4:80", "is not carried yet"),
        (
            "from=demo/new&to=svc/demo/web&port=80",
            Some(Stage::Identity),
            "10.0.0.2:8080",
            "no rule of the ALLOW policies",
        ),
        (
            "from=demo/plain&to=svc/demo/web&port=80",
            Some(Stage::Policy),
            "10.0.0.2:8080",
            "demo/plain does not belong to the mesh",
        ),
    ];
    for (query, stops_at, to, words) in rows {
        let answer = ask(query).unwrap();
        let text = answer.to_string();
        assert_eq!((answer.stops_at, answer.reaches), (stops_at, stops_at.is_none()), "{query}: {text}");
        assert!(text.contains(words) && text.contains(to), "{query}: {text}");
        let stages: Vec<_> = answer.path.iter().map(|step| step.stage as u8).collect();
        assert!(stages.is_sorted(), "{text}");
        let stops = answer.path.iter().find(|step| step.outcome == Outcome::Stops);
        assert_eq!(stops.map(|step| step.stage), stops_at);
        let known: Answer = serde_json::from_str(&serde_json::to_string(&answer).unwrap()).unwrap();
        assert_eq!(known, answer);
    }
}
