//! Why a connection is let in or not, rule by rule: what [`super::evaluate`] decides, told at length.

use std::fmt;

use super::authentication::Setting;
use super::authorization::{Action, AuthorizationPolicy};
use super::evaluate::{Reason, Verdict, evaluate};
use super::rule::{Attribute, Matcher, Request, Rule, Truth};
use super::workload::WorkloadPolicies;
use crate::model::workload::ObjectName;

/// What was decided, and what everything that applies had to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The decision, as the data path makes it.
    pub verdict: Verdict,
    /// Whether clear text is taken at the port.
    pub authentication: Setting,
    /// The AuthorizationPolicies of the workload, DENY before ALLOW.
    pub policies: Vec<Considered>,
}

/// One AuthorizationPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// Namespace and name.
    pub name: ObjectName,
    /// What its rules do.
    pub action: Action,
    /// Whether it stands for an object that is wrong.
    pub is_closed: bool,
    /// Its rules.
    pub rules: Vec<Outcome>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it counts as matching: for DENY, whether it may match; for ALLOW, whether it surely does.
    pub matches: bool,
    /// What it asks for and does not get, or cannot see; empty if everything is met.
    pub unmet: Vec<String>,
}

impl Explanation {
    /// Whether this is the policy that decided.
    #[must_use]
    pub fn decided_by(&self, considered: &Considered) -> bool {
        let Some(by) = &self.verdict.decided_by else { return false };
        self.verdict.reason != Reason::StrictMtls
            && by.policy == considered.name
            && by.rule.is_none_or(|rule| considered.rules.get(rule).is_some_and(|rule| rule.matches))
    }
}

/// So many alternatives, values and unmet requirements are told of; more are counted.
const TOLD: usize = 4;

/// Explains the decision about a connection to a workload with these policies.
#[must_use]
pub fn explain(policies: &WorkloadPolicies, request: &Request) -> Explanation {
    Explanation {
        verdict: evaluate(policies, request),
        authentication: policies.strictness().of_port(request.port()).clone(),
        policies: policies.authorization().map(|policy| consider(policy, request)).collect(),
    }
}

fn consider(policy: &AuthorizationPolicy, request: &Request) -> Considered {
    let needed = policy.action.needed();
    let outcome =
        |rule: &Rule| Outcome { matches: rule.truth(request) >= needed, unmet: unmet(rule, policy.action, request) };
    Considered {
        name: policy.name.clone(),
        action: policy.action,
        is_closed: policy.is_closed,
        rules: policy.rules.iter().map(outcome).collect(),
    }
}

/// What keeps a rule from surely matching.
fn unmet(rule: &Rule, action: Action, request: &Request) -> Vec<String> {
    let mut told = Vec::new();
    for (part, alternatives) in [("from", &rule.from), ("to", &rule.to)] {
        let failing: Vec<&Matcher> = alternatives.iter().filter_map(|all| least(all, request)).collect();
        // One alternative that holds is enough.
        if failing.len() == alternatives.len() {
            told.extend(listed(&failing, action, request).into_iter().map(|why| format!("{part}: {why}")));
        }
    }
    let failing: Vec<&Matcher> = rule.when.iter().filter(|matcher| matcher.truth(request) < Truth::Yes).collect();
    told.extend(listed(&failing, action, request).into_iter().map(|why| format!("when: {why}")));
    told
}

/// The requirement that is furthest from being met, if one is not.
fn least<'a>(all: &'a [Matcher], request: &Request) -> Option<&'a Matcher> {
    let least = all.iter().min_by_key(|matcher| matcher.truth(request))?;
    (least.truth(request) < Truth::Yes).then_some(least)
}

fn listed(failing: &[&Matcher], action: Action, request: &Request) -> Vec<String> {
    let mut told: Vec<String> = failing.iter().take(TOLD).map(|matcher| why(matcher, action, request)).collect();
    if failing.len() > TOLD {
        told.push(format!("and {} more", failing.len() - TOLD));
    }
    told
}

fn why(matcher: &Matcher, action: Action, request: &Request) -> String {
    let Matcher { attribute, negated } = matcher;
    match (matcher.truth(request), negated) {
        (Truth::Unknown, _) => match action {
            Action::Allow => format!("{} cannot be seen at L4, so the rule allows nothing", Name(attribute)),
            Action::Deny => format!("{} cannot be seen at L4 and is taken to match", Name(attribute)),
        },
        (_, false) => format!("{} is not {}", Name(attribute), Values(attribute)),
        (_, true) => format!("{} is {}, which is excepted", Name(attribute), Values(attribute)),
    }
}

struct Name<'a>(&'a Attribute);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Attribute::Principal(_) => "source principal",
            Attribute::Namespace(_) => "source namespace",
            Attribute::ServiceAccount(_) => "source service account",
            Attribute::SourceIp(_) => "source address",
            Attribute::DestinationIp(_) => "destination address",
            Attribute::DestinationPort(_) => "destination port",
            Attribute::Unseen(name) => name,
        })
    }
}

struct Values<'a>(&'a Attribute);

impl fmt::Display for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Attribute::Principal(patterns) | Attribute::Namespace(patterns) => some(patterns, f),
            Attribute::ServiceAccount(accounts) => some(accounts, f),
            Attribute::SourceIp(blocks) | Attribute::DestinationIp(blocks) => some(blocks, f),
            Attribute::DestinationPort(ports) => some(ports, f),
            Attribute::Unseen(_) => Ok(()),
        }
    }
}

fn some(values: &[impl fmt::Display], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, value) in values.iter().take(TOLD).enumerate() {
        if index > 0 {
            f.write_str(" or ")?;
        }
        value.fmt(f)?;
    }
    match values.len().checked_sub(TOLD) {
        None | Some(0) => Ok(()),
        Some(more) => write!(f, " or one of {more} more"),
    }
}
