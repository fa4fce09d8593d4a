//! AuthorizationPolicy: rules that allow or deny.

use super::rule::{Attribute, Request, Rule, Truth};
use super::selector::Selector;
use crate::model::identity::TrustDomain;
use crate::model::workload::ObjectName;

/// An AuthorizationPolicy that is enforced at L4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// Namespace and name.
    pub name: ObjectName,
    /// The workloads that it is for, within its namespace; in the root namespace, of the whole mesh.
    pub selector: Selector,
    /// What its rules do.
    pub action: Action,
    /// One of them has to match. Without any, none ever does: an ALLOW policy then lets nothing through.
    pub rules: Vec<Rule>,
    /// Whether it stands for an object that is wrong; see [`Self::closed`].
    pub is_closed: bool,
}

/// What a rule that matches does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Lets the connection through, if no DENY rule matches.
    Allow,
    /// Refuses the connection.
    Deny,
}

impl Action {
    /// As objects write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
        }
    }

    /// How sure it must be that a rule matches.
    pub(super) fn needed(self) -> Truth {
        match self {
            Self::Allow => Truth::Yes,
            Self::Deny => Truth::Unknown,
        }
    }
}

impl AuthorizationPolicy {
    /// What stands for an object that is wrong: an ALLOW policy that allows nothing, or a DENY policy that denies everything. To
    /// leave it out would let through what it may have been meant to keep out.
    #[must_use]
    pub fn closed(name: ObjectName, selector: Selector, action: Action) -> Self {
        let rules = match action {
            Action::Allow => Vec::new(),
            Action::Deny => vec![Rule::default()],
        };
        Self { name, selector, action, rules, is_closed: true }
    }

    /// The same policy where principals of `cluster.local` are those of this trust domain: in policies that name is a pointer to the
    /// mesh's own trust domain, whatever that is (Istio's "Trust Domain Migration").
    #[must_use]
    pub fn in_trust_domain(mut self, trust_domain: &TrustDomain) -> Self {
        for rule in &mut self.rules {
            let matchers = rule.from.iter_mut().chain(&mut rule.to).flatten().chain(&mut rule.when);
            for matcher in matchers {
                if let Attribute::Principal(patterns) = &mut matcher.attribute {
                    patterns.iter_mut().for_each(|pattern| pattern.point_to(trust_domain));
                }
            }
        }
        self
    }

    /// The first rule, counted from 0, that decides about a connection: one that surely matches for ALLOW, one that may match for
    /// DENY. What cannot be seen at L4 thus counts against the connection.
    #[must_use]
    pub fn deciding_rule(&self, request: &Request) -> Option<usize> {
        let needed = self.action.needed();
        self.rules.iter().position(|rule| rule.truth(request) >= needed)
    }
}
