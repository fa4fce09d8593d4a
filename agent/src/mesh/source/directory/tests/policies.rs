//! Policies that are wrong: what serves in their place.

use super::fixture::{Fixture, pod};
use crate::model::identity::{Identity, TrustDomain};
use crate::model::policy::evaluate::{Reason, evaluate};
use crate::model::policy::rule::Request;
use crate::model::workload::ObjectName;

fn policy(action: &str, source: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\n  namespace: demo\n\
         spec:\n  action: {action}\n  rules:\n  - from:\n    - source:\n        {source}\n"
    )
}

/// What is decided about a connection from `<namespace>/web` to the pod demo/one.
fn decided(fixture: &Fixture, namespace: &str) -> Reason {
    let policies = fixture.state().view.policies_of(&ObjectName::new("demo", "one")).unwrap();
    let identity = Identity::new(TrustDomain::default(), namespace, "web").unwrap();
    evaluate(&policies, &Request::new(Some(identity), [10, 0, 0, 2].into(), ([10, 0, 0, 1], 80).into())).reason
}

#[test]
fn an_invalid_change_keeps_the_last_good_policy_and_says_so() {
    let good = policy("DENY", "namespaces: [shop]");
    let mut fixture = Fixture::new(&[("pod.yaml", &pod("one", "10.0.0.1")), ("policy.yaml", &good)]);
    assert_eq!((decided(&fixture, "shop"), decided(&fixture, "demo")), (Reason::DenyRule, Reason::NoAllowPolicy));
    fixture.replace("policy.yaml", &policy("DENY", "namespace: [shop]"));
    fixture.settle();
    assert_eq!((decided(&fixture, "shop"), decided(&fixture, "demo")), (Reason::DenyRule, Reason::NoAllowPolicy));
    let problems = fixture.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let expected =
        "policy.yaml:11: AuthorizationPolicy demo/p: spec.rules[0].from[0].source.namespace: is not a field here";
    assert!(problems[0].starts_with(expected), "{problems:?}");
    assert!(problems[0].ends_with("(what was there before keeps serving)"), "{problems:?}");
    fixture.replace("policy.yaml", &policy("DENY", "namespaces: [bank]"));
    fixture.settle();
    assert_eq!((decided(&fixture, "shop"), decided(&fixture, "bank")), (Reason::NoAllowPolicy, Reason::DenyRule));
    assert_eq!(fixture.problems(), Vec::<String>::new());
}

#[test]
fn an_invalid_new_policy_fails_closed_until_it_is_mended() {
    let mut fixture = Fixture::new(&[("pod.yaml", &pod("one", "10.0.0.1"))]);
    assert_eq!(decided(&fixture, "demo"), Reason::NoAllowPolicy);
    fixture.replace("policy.yaml", &policy("ALLOW", "ipBlocks: [10.0.0.0/64]"));
    fixture.settle();
    assert_eq!(decided(&fixture, "demo"), Reason::InvalidPolicy);
    let problems = fixture.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("impossible prefix length")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("until it is mended")), "{problems:?}");
    fixture.replace("policy.yaml", &policy("ALLOW", "ipBlocks: [10.0.0.0/24]"));
    fixture.settle();
    assert_eq!(decided(&fixture, "demo"), Reason::AllowRule);
    assert_eq!(fixture.problems(), Vec::<String>::new());
}

#[test]
fn a_file_of_its_own_may_bring_a_policy_and_take_it_away() {
    let mut fixture = Fixture::new(&[("pod.yaml", &pod("one", "10.0.0.1"))]);
    fixture.replace("policy.yaml", &policy("DENY", "namespaces: [\"*\"]"));
    fixture.settle();
    assert_eq!(decided(&fixture, "demo"), Reason::DenyRule);
    std::fs::remove_file(fixture.path("policy.yaml")).unwrap();
    fixture.settle();
    assert_eq!(decided(&fixture, "demo"), Reason::NoAllowPolicy);
}
