//! The table of policies in `tests/policy/*.yaml`: manifests, connections, and what is decided about each.
//!
//! A connection reads `WHO [from IP] [to IP] [port N]: REASON [POLICY[#RULE]]`. WHO is `none` or `[TRUST DOMAIN:]NAMESPACE/ACCOUNT`; it
//! comes from 10.0.0.1 to port 80 of the pod demo/server at 10.0.0.9 and fd00::9, with the labels app=server and tier=back.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeSeed as _;
use serde_json::{Value, json};

use super::convert::check::check;
use super::convert::mesh::{Mesh, Objects, Rules, mesh};
use super::objects::kind::{Kind, Object};
use crate::model::identity::{Identity, TrustDomain};
use crate::model::policy::evaluate::{Verdict, evaluate};
use crate::model::policy::rule::Request;
use crate::model::workload::ObjectName;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    #[serde(default)]
    policies: Vec<Policy>,
    /// Each has to be part of the problem in its place.
    #[serde(default)]
    problems: Vec<String>,
    connections: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Policy {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    annotations: Value,
    created: Option<String>,
    spec: Value,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            api_version: "security.istio.io/v1".into(),
            kind: "AuthorizationPolicy".into(),
            namespace: "demo".into(),
            name: "p".into(),
            annotations: Value::Null,
            created: None,
            spec: Value::Null,
        }
    }
}

fn object(manifest: &Value) -> Object {
    let text = |key: &str| manifest[key].as_str().unwrap();
    let kind = Kind::resolve(text("apiVersion"), text("kind")).unwrap().unwrap();
    kind.deserialize(manifest).unwrap()
}

fn server() -> Object {
    object(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "demo", "name": "server", "labels": {"app": "server", "tier": "back"}},
        "status": {"podIPs": [{"ip": "10.0.0.9"}, {"ip": "fd00::9"}]},
    }))
}

impl Policy {
    fn object(&self) -> Object {
        object(&json!({
            "apiVersion": self.api_version, "kind": self.kind,
            "metadata": {"namespace": self.namespace, "name": self.name, "annotations": self.annotations,
                "creationTimestamp": self.created},
            "spec": self.spec,
        }))
    }
}

/// The mesh of these objects, and what is reported: first what is wrong with each, then the rest.
fn convert(objects: &[Object]) -> (Mesh, Vec<String>) {
    let rules = Rules::default();
    let mut sorted = Objects::default();
    objects.iter().for_each(|object| sorted.add(object));
    let faults = objects
        .iter()
        .flat_map(|object| check(object, &rules).into_iter().map(|fault| fault.of(object.reference()).to_string()));
    let mesh = mesh(&sorted, &rules);
    let problems = faults.chain(mesh.problems.iter().map(ToString::to_string)).collect();
    (mesh, problems)
}

fn request(words: &str) -> Request {
    let mut words = words.split_whitespace();
    let who = words.next().unwrap();
    let identity = (who != "none").then(|| {
        let (domain, who) = who.split_once(':').unwrap_or(("cluster.local", who));
        let (namespace, account) = who.split_once('/').unwrap();
        Identity::new(TrustDomain::new(domain).unwrap(), namespace, account).unwrap()
    });
    let (mut from, mut to, mut port) = ("10.0.0.1", "10.0.0.9", "80");
    while let Some(word) = words.next() {
        let value = words.next().unwrap();
        match word {
            "from" => from = value,
            "to" => to = value,
            "port" => port = value,
            other => panic!("{other}"),
        }
    }
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    Request::new(identity, ip(from), (ip(to), port.parse().unwrap()).into())
}

fn spelt(verdict: &Verdict) -> String {
    let mut text = verdict.reason.code().to_owned();
    if let Some(by) = &verdict.decided_by {
        write!(text, " {}", by.policy).unwrap();
        by.rule.iter().for_each(|rule| write!(text, "#{rule}").unwrap());
    }
    text
}

/// Adds what is wrong to `wrong`; how many connections were checked.
fn run(case: &Case, wrong: &mut String) -> usize {
    let mut objects: Vec<Object> = case.policies.iter().map(Policy::object).collect();
    objects.push(server());
    let (mesh, problems) = convert(&objects);
    let as_expected = problems.len() == case.problems.len()
        && case.problems.iter().zip(&problems).all(|(expected, problem)| problem.contains(expected.as_str()));
    if !as_expected {
        writeln!(wrong, "{}: expected {:#?}, reported {problems:#?}", case.about, case.problems).unwrap();
    }
    let policies = mesh.view.policies_of(&ObjectName::new("demo", "server")).unwrap();
    for connection in &case.connections {
        let (who, expected) = connection.rsplit_once(": ").unwrap();
        let verdict = spelt(&evaluate(&policies, &request(who)));
        if verdict != expected {
            writeln!(wrong, "{}: {who}: expected {expected}, decided {verdict}", case.about).unwrap();
        }
    }
    case.connections.len()
}

#[test]
fn policies_decide_as_the_table_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/policy");
    let (mut wrong, mut checked) = (String::new(), 0);
    for entry in std::fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let cases: Vec<Case> =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        checked += cases.iter().map(|case| run(case, &mut wrong)).sum::<usize>();
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(checked >= 240, "only {checked} connections in {}", root.display());
}

fn policy(index: usize, selector: &Value) -> Object {
    let rules = json!([{"from": [{"source": {"principals": [format!("cluster.local/ns/n/sa/{index}")]}}]}]);
    let name = format!("p{index:05}");
    Policy { name, spec: json!({"selector": selector, "rules": rules}), ..Policy::default() }.object()
}

#[test]
fn of_ten_thousand_policies_only_those_that_apply_are_looked_at() {
    let mut objects = vec![server()];
    for index in 0..10_000 {
        let app = if index == 7_000 { "server".to_owned() } else { format!("other-{index}") };
        objects.push(policy(index, &json!({"matchLabels": {"app": app, "tier": "back"}})));
    }
    let (mesh, problems) = convert(&objects);
    assert_eq!(problems, Vec::<String>::new());
    let policies = mesh.view.policies_of(&ObjectName::new("demo", "server")).unwrap();
    let names: Vec<_> = policies.authorization().map(|policy| policy.name.to_string()).collect();
    assert_eq!(names, ["demo/p07000"]);
}

#[test]
fn ten_thousand_rules_are_too_many_and_fail_closed() {
    let spec = json!({"rules": vec![json!({}); 10_000]});
    let (mesh, problems) = convert(&[server(), Policy { spec, ..Policy::default() }.object()]);
    assert!(problems[0].contains("spec.rules: has 10000 rules; at most 512"), "{problems:?}");
    let policies = mesh.view.policies_of(&ObjectName::new("demo", "server")).unwrap();
    assert_eq!(spelt(&evaluate(&policies, &request("demo/web"))), "invalid_policy demo/p");
}

#[test]
#[ignore = "measures; run it by name with --nocapture"]
fn cost_of_an_evaluation() {
    for (count, applying) in [(1, 1), (10_000, 1), (10_000, 100), (10_000, 10_000)] {
        let mut objects = vec![server()];
        objects.extend((0..count).map(|index| {
            let app = if index < applying { "server".to_owned() } else { format!("other-{index}") };
            policy(index, &json!({"matchLabels": {"app": app}}))
        }));
        let start = std::time::Instant::now();
        let (mesh, _) = convert(&objects);
        let converted = start.elapsed();
        let start = std::time::Instant::now();
        let policies = mesh.view.policies_of(&ObjectName::new("demo", "server")).unwrap();
        let found = start.elapsed();
        let request = request("n/none");
        let rounds = if applying > 100 { 1_000 } else { 100_000 };
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            std::hint::black_box(evaluate(std::hint::black_box(&policies), std::hint::black_box(&request)));
        }
        let each = start.elapsed() / rounds;
        eprintln!(
            "{count} policies, {applying} apply: converted in {converted:?}, found in {found:?}, evaluated in {each:?}"
        );
    }
}
