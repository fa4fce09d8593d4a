//! Explanations say what the evaluator decides, and name what is missing.

use std::sync::Arc;

use super::generate::{self as any, ROOT, cases};
use crate::model::identity::{Identity, TrustDomain};
use crate::model::policy::authentication::{Level, Mode, PeerAuthentication};
use crate::model::policy::authorization::{Action, AuthorizationPolicy};
use crate::model::policy::evaluate::{Reason, Verdict, evaluate};
use crate::model::policy::explain::{Considered, Explanation, explain};
use crate::model::policy::policies::Policies;
use crate::model::policy::rule::{Attribute, Matcher, Request, Rule};
use crate::model::policy::selector::{Labels, Selector};
use crate::model::policy::workload::WorkloadPolicies;
use crate::model::workload::ObjectName;

/// The verdict that a reader of the explanation comes to who does not see the verdict.
fn read(explanation: &Explanation, request: &Request) -> bool {
    let matched = |considered: &Considered| considered.rules.iter().any(|rule| rule.matches);
    let of = |action| explanation.policies.iter().filter(move |considered| considered.action == action);
    let strict = explanation.authentication.is_strict() && request.identity().is_none();
    !strict && !of(Action::Deny).any(matched) && (of(Action::Allow).count() == 0 || of(Action::Allow).any(matched))
}

#[test]
fn an_explanation_comes_to_the_evaluators_verdict() {
    for (seed, mut rng) in cases(4_000) {
        let policies = Policies::new(ROOT.into(), any::peers(&mut rng), any::policies(&mut rng));
        let (namespace, labels) = (any::namespace(&mut rng), any::labels(&mut rng));
        let (policies, request) = (policies.of(namespace, &labels), any::request(&mut rng));
        let (explanation, verdict) = (explain(&policies, &request), evaluate(&policies, &request));
        assert_eq!(explanation.verdict, verdict, "case {seed}");
        assert_eq!(read(&explanation, &request), verdict.allowed(), "case {seed}");
        // Whoever is named as decisive is told of as such.
        if let Some(rule) = verdict.decided_by.as_ref().and_then(|by| by.rule) {
            let named = explanation.policies.iter().filter(|considered| Some(&considered.name) == verdict.policy());
            assert!(named.into_iter().any(|considered| considered.rules[rule].matches), "case {seed}");
        }
        // A rule that surely matches lacks nothing, and the other way round.
        for (policy, considered) in policies.authorization().zip(&explanation.policies) {
            for (rule, outcome) in policy.rules.iter().zip(&considered.rules) {
                let sure = rule.truth(&request) == crate::model::policy::rule::Truth::Yes;
                assert_eq!(outcome.unmet.is_empty(), sure, "case {seed}: {:?}", outcome.unmet);
            }
        }
    }
}

fn request(account: Option<&str>) -> Request {
    let identity = |account| Identity::new(TrustDomain::default(), "demo", account).unwrap();
    Request::new(account.map(identity), [10, 0, 0, 1].into(), ([10, 0, 0, 9], 8080).into())
}

fn only_web() -> WorkloadPolicies {
    let rule = |from: Vec<Matcher>, to: Vec<Matcher>| Rule { from: vec![from], to: vec![to], when: Vec::new() };
    let principal = Matcher::is(Attribute::Principal(vec!["cluster.local/ns/demo/sa/web".parse().unwrap()]));
    let port = Matcher::is(Attribute::DestinationPort(vec![8080]));
    let not_port = Matcher::is_not(Attribute::DestinationPort(vec![8080, 9090]));
    let methods = Matcher::is(Attribute::Unseen("methods".into()));
    let address = Matcher::is(Attribute::SourceIp(vec!["192.0.2.0/24".parse().unwrap()]));
    let policy = AuthorizationPolicy {
        name: ObjectName::new("demo", "only-web"),
        selector: Selector::default(),
        action: Action::Allow,
        rules: vec![
            rule(vec![principal], vec![port]),
            rule(vec![address.clone()], vec![not_port]),
            Rule { to: vec![vec![methods]], when: vec![address], ..Rule::default() },
        ],
        is_closed: false,
    };
    WorkloadPolicies::new(Default::default(), vec![Arc::new(policy)])
}

#[test]
fn what_is_missing_is_named() {
    let allowed = explain(&only_web(), &request(Some("web")));
    assert_eq!(allowed.verdict.reason, Reason::AllowRule);
    assert_eq!(allowed.policies[0].rules[0].unmet, Vec::<String>::new());

    let denied = explain(&only_web(), &request(None));
    let Verdict { reason, .. } = denied.verdict;
    assert_eq!(reason, Reason::NoAllowRule);
    let unmet: Vec<_> = denied.policies[0].rules.iter().map(|rule| rule.unmet.join("; ")).collect();
    let expected = [
        "from: source principal is not cluster.local/ns/demo/sa/web",
        "from: source address is not 192.0.2.0/24; to: destination port is 8080 or 9090, which is excepted",
        "to: methods cannot be seen at L4, so the rule allows nothing; when: source address is not 192.0.2.0/24",
    ];
    assert_eq!(unmet, expected);
}

#[test]
fn many_values_are_counted_and_not_told() {
    let ports: Vec<u16> = (1..=10_000).collect();
    let rule = Rule { to: vec![vec![Matcher::is(Attribute::DestinationPort(ports))]; 512], ..Rule::default() };
    let name = ObjectName::new("demo", "long");
    let (selector, action) = (Selector::default(), Action::Allow);
    let policy = AuthorizationPolicy { name, selector, action, rules: vec![rule], is_closed: false };
    let policies = WorkloadPolicies::new(Default::default(), vec![Arc::new(policy)]);
    let far = Request::new(None, [10, 0, 0, 1].into(), ([10, 0, 0, 9], 20_000).into());
    let unmet = &explain(&policies, &far).policies[0].rules[0].unmet;
    assert_eq!(unmet.len(), 5);
    assert_eq!(unmet[0], "to: destination port is not 1 or 2 or 3 or 4 or one of 9996 more");
    assert_eq!(unmet[4], "to: and 508 more");
}

#[test]
fn a_mode_is_told_with_its_level() {
    let peer = |namespace: &str, labels: &[(&str, &str)], mode, ports: &[(u16, Mode)]| PeerAuthentication {
        name: ObjectName::new(namespace, "peer"),
        selector: Selector(labels.iter().copied().collect()),
        mode,
        ports: ports.iter().copied().collect(),
        created: None,
    };
    let peers = vec![
        peer(ROOT, &[], Mode::Strict, &[]),
        peer("a", &[], Mode::Disable, &[]),
        peer("a", &[("app", "x")], Mode::Unset, &[(8080, Mode::Strict)]),
        peer("a", &[("app", "y")], Mode::Permissive, &[]),
    ];
    let policies = Policies::new(ROOT.into(), peers, Vec::new());
    let setting = |namespace: &str, app: &str, port| {
        let labels = Labels::from_iter([("app", app)]);
        let found = policies.of(namespace, &labels);
        let setting = found.strictness().of_port(port);
        (setting.mode, setting.level, setting.by.as_ref().map(ToString::to_string))
    };
    let by = |namespace: &str| Some(format!("{namespace}/peer"));
    assert_eq!(setting("b", "x", 80), (Mode::Strict, Level::Mesh, by(ROOT)));
    assert_eq!(setting("a", "z", 80), (Mode::Disable, Level::Namespace, by("a")));
    assert_eq!(setting("a", "x", 80), (Mode::Disable, Level::Namespace, by("a")));
    assert_eq!(setting("a", "x", 8080), (Mode::Strict, Level::Port, by("a")));
    assert_eq!(setting("a", "y", 8080), (Mode::Permissive, Level::Workload, by("a")));
    let none = Policies::new(ROOT.into(), Vec::new(), Vec::new()).of("a", &Labels::new());
    assert_eq!(none.strictness().of_port(80).level, Level::Default);
}
