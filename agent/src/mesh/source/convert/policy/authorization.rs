//! One AuthorizationPolicy.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::mesh::source::convert::annotations::DRY_RUN;
use crate::mesh::source::field::{FieldPath, shorten};
use crate::mesh::source::objects::authorization_policy::AuthorizationPolicy;
use crate::mesh::source::problem::Fault;
use crate::model::policy::authorization::{self as model, Action};
use crate::model::policy::rule::{Matcher, Rule};
use crate::model::workload::ObjectName;

use super::conditions::condition;
use super::fields::{Fields, Reading};
use super::selector::selector;
use super::sources::{operation, source};

/// As many rules as Istio's own definition of the object admits, and as many alternatives in one.
const MAX_RULES: usize = 512;

/// What an object asks for, as far as that can be told of one that is wrong.
enum Purpose {
    /// To be enforced here.
    Enforce(Action),
    /// Not to be enforced here, and why.
    Leave(FieldPath, &'static str),
}

/// Reads an object. Where it is wrong, the policy stands for it and fails closed.
pub(in crate::mesh::source::convert) fn read(object: &AuthorizationPolicy) -> Reading<model::AuthorizationPolicy> {
    let (mut faults, mut notices) = (Vec::new(), Vec::new());
    let known = ["selector", "action", "rules", "targetRef", "targetRefs", "provider"];
    let spec = Fields::of(Some(&object.spec), FieldPath::of("spec"), &known, &mut faults);
    let selector = selector(&spec, &mut faults, &mut notices);
    let action = match purpose(object, &spec, &mut faults) {
        Purpose::Enforce(action) => action,
        Purpose::Leave(field, why) => {
            notices.push(Fault::new(field, why));
            return Reading { policy: None, faults, notices };
        }
    };
    let rules = rules(&spec, object.metadata.namespace_or_default(), &mut faults);
    let name = ObjectName::new(object.metadata.namespace_or_default(), &object.metadata.name);
    if !faults.is_empty() {
        let closed = model::AuthorizationPolicy::closed(name, selector, action);
        return Reading { policy: Some(closed), faults, notices };
    }
    notices.extend(remarks(&spec, action, &rules));
    let policy = model::AuthorizationPolicy { name, selector, action, rules, is_closed: false };
    Reading { policy: Some(policy), faults, notices }
}

fn purpose(object: &AuthorizationPolicy, spec: &Fields<'_>, faults: &mut Vec<Fault>) -> Purpose {
    for key in ["targetRef", "targetRefs"] {
        let is_set = spec.value(key).is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty()));
        if is_set {
            return Purpose::Leave(
                spec.path(key),
                "is for a waypoint or gateway to enforce; nothing of the policy is here",
            );
        }
    }
    if object.metadata.annotations.get(DRY_RUN).is_some_and(|value| value == "true") {
        let field = FieldPath::of("metadata.annotations").key(DRY_RUN);
        return Purpose::Leave(field, "makes the policy a trial: it is not enforced");
    }
    let before = faults.len();
    match spec.text("action", faults) {
        // Something that is not even a text.
        None if faults.len() > before => Purpose::Enforce(Action::Deny),
        None | Some("ALLOW") => Purpose::Enforce(Action::Allow),
        Some("DENY") => Purpose::Enforce(Action::Deny),
        Some("AUDIT") => Purpose::Leave(spec.path("action"), "AUDIT is not supported at L4: nothing is recorded"),
        Some("CUSTOM") => Purpose::Leave(
            spec.path("action"),
            "CUSTOM is not supported at L4 and not enforced: attach the policy to a waypoint with targetRefs",
        ),
        Some(other) => {
            let message = format!("{:?} is not an action: write ALLOW or DENY", shorten(other));
            faults.push(Fault::new(spec.path("action"), message));
            Purpose::Enforce(Action::Deny)
        }
    }
}

fn rules(spec: &Fields<'_>, namespace: &str, faults: &mut Vec<Fault>) -> Vec<Rule> {
    let list = spec.list("rules", faults).unwrap_or_default();
    if list.len() > MAX_RULES {
        let message = format!("has {} rules; at most {MAX_RULES}: split the policy", list.len());
        faults.push(Fault::new(spec.path("rules"), message));
        return Vec::new();
    }
    let rules = list.iter().enumerate();
    rules.map(|(index, value)| rule(value, spec.path("rules").index(index), namespace, faults)).collect()
}

fn rule(value: &Value, path: FieldPath, namespace: &str, faults: &mut Vec<Fault>) -> Rule {
    if value.is_null() {
        faults.push(Fault::new(path, "is nothing: write {} for a rule that matches everything, or remove it"));
        return Rule::default();
    }
    let fields = Fields::of(Some(value), path, &["from", "to", "when"], faults);
    let from =
        alternatives(&fields, "from", "source", faults, |value, path, faults| source(value, path, namespace, faults));
    let to = alternatives(&fields, "to", "operation", faults, operation);
    let conditions = fields.list("when", faults).unwrap_or_default().iter().enumerate();
    let mut when = Vec::new();
    for (index, value) in conditions {
        when.extend(condition(value, fields.path("when").index(index), namespace, faults));
    }
    Rule { from, to, when }
}

/// `from` or `to`: a list of mappings with one field each.
fn alternatives(
    rule: &Fields<'_>,
    key: &str,
    inner: &str,
    faults: &mut Vec<Fault>,
    read: impl Fn(&Value, FieldPath, &mut Vec<Fault>) -> Vec<Matcher>,
) -> Vec<Vec<Matcher>> {
    let Some(list) = rule.list(key, faults) else { return Vec::new() };
    if list.is_empty() || list.len() > MAX_RULES {
        let message = format!("must have 1 to {MAX_RULES} entries; leave it out if any {inner} will do");
        faults.push(Fault::new(rule.path(key), message));
        return Vec::new();
    }
    let mut all = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let fields = Fields::of(Some(value), rule.path(key).index(index), &[inner], faults);
        let path = fields.path(inner);
        let before = faults.len();
        let matchers = read(fields.value(inner).unwrap_or(&Value::Null), path.clone(), faults);
        if matchers.is_empty() && faults.len() == before {
            let message =
                format!("is empty and would match anything: name something of the {inner}, or leave {key} out");
            faults.push(Fault::new(path, message));
        }
        all.push(matchers);
    }
    all
}

/// What somebody should know of a policy that is right.
fn remarks(spec: &Fields<'_>, action: Action, rules: &[Rule]) -> Vec<Fault> {
    let mut remarks = Vec::new();
    if rules.is_empty() && action == Action::Deny {
        remarks.push(Fault::new(spec.path("rules"), "is empty: a DENY policy without rules denies nothing"));
    }
    for (index, rule) in rules.iter().enumerate() {
        let unseen: BTreeSet<&str> = rule.unseen().collect();
        if unseen.is_empty() {
            continue;
        }
        let names = unseen.into_iter().map(shorten).collect::<Vec<_>>().join(", ");
        let effect = match action {
            Action::Allow => "what needs them to match never does, so less is allowed than asked for",
            Action::Deny => "they are taken to match, so more is denied than asked for",
        };
        let message = format!(
            "has attributes that cannot be seen at L4 ({names}): {effect}; attach the policy to a waypoint with targetRefs"
        );
        remarks.push(Fault::new(spec.path("rules").index(index), message));
    }
    remarks
}
