//! What holds for any policies and any connection.

use std::sync::Arc;

use fastrand::Rng;

use super::generate::{self as any, ROOT, cases};
use crate::model::policy::authentication::{Mode, PeerAuthentication};
use crate::model::policy::authorization::{Action, AuthorizationPolicy};
use crate::model::policy::evaluate::{Reason, evaluate};
use crate::model::policy::policies::Policies;
use crate::model::policy::rule::{Attribute, Matcher, Request, Rule, Truth};
use crate::model::policy::selector::Labels;
use crate::model::policy::workload::WorkloadPolicies;

const CASES: u64 = 4_000;

fn of(policies: &[AuthorizationPolicy]) -> WorkloadPolicies {
    WorkloadPolicies::new(Default::default(), policies.iter().cloned().map(Arc::new).collect())
}

fn allows(policies: &[AuthorizationPolicy], request: &Request) -> bool {
    evaluate(&of(policies), request).allowed()
}

/// Changes one requirement somewhere in the policies; false if there is none.
fn change_one(rng: &mut Rng, policies: &mut [AuthorizationPolicy], change: impl FnOnce(&mut Matcher)) -> bool {
    let rules = policies.iter_mut().flat_map(|policy| &mut policy.rules);
    let matchers = rules.flat_map(|rule| rule.from.iter_mut().chain(&mut rule.to).flatten().chain(&mut rule.when));
    let mut matchers: Vec<_> = matchers.collect();
    let picked = rng.usize(..matchers.len().max(1));
    matchers.get_mut(picked).map(|matcher| change(matcher)).is_some()
}

#[test]
fn another_deny_policy_or_rule_never_lets_more_in() {
    for (seed, mut rng) in cases(CASES) {
        let (before, request) = (any::policies(&mut rng), any::request(&mut rng));
        let mut after = before.clone();
        match after.iter_mut().find(|policy| policy.action == Action::Deny) {
            Some(policy) if rng.bool() => policy.rules.push(any::rule(&mut rng)),
            _ => after.push(AuthorizationPolicy { action: Action::Deny, ..any::policy(&mut rng) }),
        }
        assert!(allows(&before, &request) || !allows(&after, &request), "case {seed}");
    }
}

#[test]
fn another_allow_rule_never_keeps_more_out() {
    for (seed, mut rng) in cases(CASES) {
        let (before, request) = (any::policies(&mut rng), any::request(&mut rng));
        let mut after = before.clone();
        let Some(policy) = after.iter_mut().find(|policy| policy.action == Action::Allow) else { continue };
        if rng.bool() {
            policy.rules.push(any::rule(&mut rng));
        } else {
            after.push(AuthorizationPolicy { action: Action::Allow, ..any::policy(&mut rng) });
        }
        assert!(!allows(&before, &request) || allows(&after, &request), "case {seed}");
    }
}

#[test]
fn without_allow_policies_all_is_let_in_that_is_not_denied() {
    for (seed, mut rng) in cases(CASES) {
        let (mut policies, request) = (any::policies(&mut rng), any::request(&mut rng));
        policies.retain(|policy| policy.action == Action::Deny);
        let denied = policies.iter().any(|policy| policy.deciding_rule(&request).is_some());
        assert_eq!(allows(&policies, &request), !denied, "case {seed}");
    }
}

#[test]
fn nothing_hangs_on_an_order() {
    for (seed, mut rng) in cases(CASES) {
        let (policies, request) = (any::policies(&mut rng), any::request(&mut rng));
        let before = evaluate(&of(&policies), &request);
        let mut shuffled = policies.clone();
        rng.shuffle(&mut shuffled);
        assert_eq!(evaluate(&of(&shuffled), &request), before, "case {seed}: policies");
        for rule in shuffled.iter_mut().flat_map(|policy| &mut policy.rules) {
            rng.shuffle(&mut rule.from);
            rng.shuffle(&mut rule.to);
            rng.shuffle(&mut rule.when);
            rule.from.iter_mut().chain(&mut rule.to).for_each(|matchers| rng.shuffle(matchers));
        }
        assert_eq!(evaluate(&of(&shuffled), &request), before, "case {seed}: parts of rules");
        shuffled.iter_mut().for_each(|policy| rng.shuffle(&mut policy.rules));
        let after = evaluate(&of(&shuffled), &request);
        assert_eq!((after.reason, after.policy()), (before.reason, before.policy()), "case {seed}: rules");
    }
}

#[test]
fn a_negative_requirement_is_the_opposite_of_the_positive_one() {
    for (seed, mut rng) in cases(CASES) {
        let (attribute, request) = (any::seen(&mut rng), any::request(&mut rng));
        let (is, is_not) = (Matcher::is(attribute.clone()), Matcher::is_not(attribute));
        let opposite = match is.truth(&request) {
            Truth::Yes => Truth::No,
            Truth::No => Truth::Yes,
            Truth::Unknown => panic!("case {seed}: everything is seen"),
        };
        assert_eq!(is_not.truth(&request), opposite, "case {seed}");
    }
}

#[test]
fn what_is_not_seen_never_lets_more_in() {
    for (seed, mut rng) in cases(CASES) {
        let (before, request) = (any::policies(&mut rng), any::request(&mut rng));
        let mut after = before.clone();
        change_one(&mut rng, &mut after, |matcher| matcher.attribute = Attribute::Unseen("paths".into()));
        assert!(allows(&before, &request) || !allows(&after, &request), "case {seed}");
    }
}

#[test]
fn whether_what_is_not_seen_is_negated_does_not_matter() {
    for (seed, mut rng) in cases(CASES) {
        let (before, request) = (any::policies(&mut rng), any::request(&mut rng));
        let mut after = before.clone();
        let flip = |matcher: &mut Matcher| matcher.negated ^= matches!(matcher.attribute, Attribute::Unseen(_));
        change_one(&mut rng, &mut after, flip);
        assert_eq!(allows(&before, &request), allows(&after, &request), "case {seed}");
    }
}

#[test]
fn alternatives_are_the_same_as_rules_of_their_own() {
    for (seed, mut rng) in cases(CASES) {
        let (together, request) = (any::policies(&mut rng), any::request(&mut rng));
        let mut apart = together.clone();
        for policy in &mut apart {
            policy.rules = policy.rules.iter().flat_map(split).collect();
        }
        assert_eq!(allows(&together, &request), allows(&apart, &request), "case {seed}");
    }
}

/// A rule for each pair of one source and one operation.
fn split(rule: &Rule) -> Vec<Rule> {
    let each = |alternatives: &[Vec<Matcher>]| match alternatives {
        [] => vec![Vec::new()],
        some => some.iter().map(|one| vec![one.clone()]).collect(),
    };
    let (from, to) = (each(&rule.from), each(&rule.to));
    let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (from.clone(), to.clone())));
    pairs.map(|(from, to)| Rule { from, to, when: rule.when.clone() }).collect()
}

/// Istio's words in plain booleans: what is not seen holds where that denies, and does not where that allows.
fn reference(policies: &[AuthorizationPolicy], request: &Request) -> bool {
    let holds = |matcher: &Matcher, action: Action| {
        let unseen = matches!(matcher.attribute, Attribute::Unseen(_));
        if unseen { action == Action::Deny } else { matcher.truth(request) == Truth::Yes }
    };
    let matches = |rule: &Rule, action: Action| {
        let one = |list: &[Vec<Matcher>]| {
            list.is_empty() || list.iter().any(|all| all.iter().all(|matcher| holds(matcher, action)))
        };
        one(&rule.from) && one(&rule.to) && rule.when.iter().all(|matcher| holds(matcher, action))
    };
    let any_matches = |action: Action| {
        policies.iter().filter(|p| p.action == action).any(|p| p.rules.iter().any(|rule| matches(rule, action)))
    };
    let must_be_allowed = policies.iter().any(|policy| policy.action == Action::Allow);
    !any_matches(Action::Deny) && (!must_be_allowed || any_matches(Action::Allow))
}

#[test]
fn the_decision_is_that_of_a_simpler_evaluator() {
    let mut allowed = 0;
    for (seed, mut rng) in cases(4 * CASES) {
        let (policies, request) = (any::policies(&mut rng), any::request(&mut rng));
        let verdict = allows(&policies, &request);
        assert_eq!(verdict, reference(&policies, &request), "case {seed}");
        allowed += u64::from(verdict);
    }
    assert!((CASES / 2..4 * CASES - CASES / 2).contains(&allowed), "{allowed} of {} were allowed", 4 * CASES);
}

#[test]
fn the_index_finds_what_a_look_at_every_policy_finds() {
    for (seed, mut rng) in cases(CASES) {
        let (all, namespace, labels) = (any::policies(&mut rng), any::namespace(&mut rng), any::labels(&mut rng));
        let found = Policies::new(ROOT.into(), Vec::new(), all.clone()).of(namespace, &labels);
        let applies = |policy: &&AuthorizationPolicy| {
            [namespace, ROOT].contains(&&*policy.name.namespace) && policy.selector.selects(&labels)
        };
        let expected: Vec<_> = all.iter().filter(applies).cloned().collect();
        assert_eq!(found, of(&expected), "case {seed}");
    }
}

/// The mode of a port, by walking up from the narrowest level.
fn mode(peers: &[PeerAuthentication], namespace: &str, labels: &Labels, port: u16) -> Mode {
    let oldest = |wanted: &dyn Fn(&&PeerAuthentication) -> bool| {
        let key = |p: &&PeerAuthentication| (p.created.is_none(), p.created.clone(), p.name.clone());
        peers.iter().filter(wanted).min_by_key(key)
    };
    let whole = |p: &&PeerAuthentication, of: &str| p.selector.is_everything() && &*p.name.namespace == of;
    let workload = oldest(&|p| {
        let selects = !p.selector.is_everything() && p.selector.selects(labels);
        selects && namespace != ROOT && &*p.name.namespace == namespace
    });
    let modes = [
        workload.and_then(|p| p.ports.get(&port).copied()),
        workload.map(|p| p.mode),
        oldest(&|p| whole(p, namespace)).map(|p| p.mode),
        oldest(&|p| whole(p, ROOT)).map(|p| p.mode),
    ];
    modes.into_iter().flatten().find(|mode| *mode != Mode::Unset).unwrap_or(Mode::Permissive)
}

#[test]
fn only_strict_keeps_clear_text_out_and_nothing_else() {
    let mut strict = 0;
    for (seed, mut rng) in cases(4 * CASES) {
        let (peers, request) = (any::peers(&mut rng), any::request(&mut rng));
        let (namespace, labels) = (any::namespace(&mut rng), any::labels(&mut rng));
        let policies = Policies::new(ROOT.into(), peers.clone(), Vec::new()).of(namespace, &labels);
        let expected = request.identity().is_some() || mode(&peers, namespace, &labels, request.port()) != Mode::Strict;
        let verdict = evaluate(&policies, &request);
        assert_eq!(verdict.allowed(), expected, "case {seed}: {peers:?}");
        assert_eq!(verdict.reason == Reason::StrictMtls, !expected, "case {seed}");
        strict += u64::from(!expected);
    }
    assert!(strict > CASES / 10, "{strict}");
}

#[test]
fn peer_authentication_never_lets_in_what_authorization_keeps_out() {
    for (seed, mut rng) in cases(CASES) {
        let (peers, policies, request) = (any::peers(&mut rng), any::policies(&mut rng), any::request(&mut rng));
        let (namespace, labels) = (any::namespace(&mut rng), any::labels(&mut rng));
        let without = Policies::new(ROOT.into(), Vec::new(), policies.clone()).of(namespace, &labels);
        let with = Policies::new(ROOT.into(), peers, policies).of(namespace, &labels);
        let (without, with) = (evaluate(&without, &request), evaluate(&with, &request));
        assert!(without.allowed() || !with.allowed(), "case {seed}");
        assert!(request.identity().is_none() || with == without, "case {seed}: an identity satisfies any mode");
    }
}

#[test]
fn a_policy_that_is_wrong_lets_nothing_in_by_itself() {
    for (seed, mut rng) in cases(CASES) {
        let (mut policies, request) = (any::policies(&mut rng), any::request(&mut rng));
        let wrong = any::policy(&mut rng);
        let closed = AuthorizationPolicy::closed(wrong.name.clone(), wrong.selector.clone(), wrong.action);
        assert!(!allows(std::slice::from_ref(&closed), &request), "case {seed}: alone it keeps everything out");
        let with_meant = [policies.clone(), vec![wrong]].concat();
        policies.push(closed);
        assert!(!allows(&policies, &request) || allows(&with_meant, &request), "case {seed}: closed is the narrowest");
    }
}
