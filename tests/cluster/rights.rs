//! The rights that `deploy/` gives, held against what the programs have asked the API server for: nothing was refused, and there is
//! no right that nobody used.

use std::collections::BTreeSet;

use harness::kube::Cluster;
use serde_json::Value;

use crate::installed::{Installed, SYSTEM};

/// Who asked or may ask: the service account; verb, API group, resource with subresource, and name where rights name one.
type Right = (String, String, String, String, String);

const ACCOUNTS: [&str; 2] = ["sotto-node", "sotto-controller"];

/// To be called when everything that needs rights has happened.
#[track_caller]
pub(crate) fn assert_rights_are_exact(mesh: &Installed<'_>) {
    let (cluster, since) = (mesh.cluster, mesh.since());
    let mut audit = cluster.audit();
    // An earlier mesh lost its rights while it was removed.
    audit.retain(|entry| entry["requestReceivedTimestamp"].as_str().is_some_and(|at| at >= since.as_str()));
    let refused: BTreeSet<_> = audit.iter().filter(|entry| is(entry, "forbid")).map(shown).collect();
    assert!(refused.is_empty(), "asked for without a right: {refused:#?}");
    let used: BTreeSet<Right> = audit.iter().filter(|entry| is(entry, "allow")).filter_map(asked).collect();
    assert!(used.len() > 20, "the audit log tells too little: {used:#?}");
    let given = given(cluster);
    let idle: Vec<_> = given.iter().filter(|right| !used.iter().any(|used| covers(right, used))).collect();
    assert!(idle.is_empty(), "rights that nobody has used: {idle:#?}\nused: {used:#?}");
    println!("{} rights, each used; {} requests, none refused", given.len(), audit.len());
}

fn is(entry: &Value, decision: &str) -> bool {
    entry["annotations"]["authorization.k8s.io/decision"] == decision
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn shown(entry: &Value) -> String {
    format!("{} {} {}", entry["user"]["username"], entry["verb"], entry["requestURI"])
}

fn asked(entry: &Value) -> Option<Right> {
    let account = text(&entry["user"]["username"]).rsplit(':').next()?.to_owned();
    let what = entry["objectRef"].as_object()?;
    let field = |name: &str| what.get(name).map(text).unwrap_or_default();
    let resource = [field("resource"), field("subresource")].into_iter().filter(|part| !part.is_empty());
    let resource = resource.collect::<Vec<_>>().join("/");
    Some((account, text(&entry["verb"]), field("apiGroup"), resource, field("name")))
}

/// Every single right, from the roles as they are in the cluster.
fn given(cluster: &Cluster) -> Vec<Right> {
    let mut rights = Vec::new();
    for account in ACCOUNTS {
        let kubectl = cluster.kubectl();
        let roles = [kubectl.get(&["clusterrole", account]), kubectl.get(&["-n", SYSTEM, "role", account])];
        for rule in roles.iter().flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default()) {
            rights.extend(single(account, &rule));
        }
    }
    rights
}

/// A rule stands for every combination of what it lists.
fn single(account: &str, rule: &Value) -> Vec<Right> {
    let list = |field: &str| -> Vec<String> { rule[field].as_array().into_iter().flatten().map(text).collect() };
    let names = Some(list("resourceNames")).filter(|names| !names.is_empty()).unwrap_or_else(|| vec![String::new()]);
    let mut rights = vec![(account.to_owned(), String::new(), String::new(), String::new(), String::new())];
    rights = combine(&rights, &list("verbs"), |right, verb| right.1 = verb);
    rights = combine(&rights, &list("apiGroups"), |right, group| right.2 = group);
    rights = combine(&rights, &list("resources"), |right, resource| right.3 = resource);
    combine(&rights, &names, |right, name| right.4 = name)
}

fn combine(rights: &[Right], values: &[String], set: impl Fn(&mut Right, String)) -> Vec<Right> {
    let all = rights.iter().flat_map(|right| values.iter().map(move |value| (right.clone(), value.clone())));
    all.map(|(mut right, value)| {
        set(&mut right, value);
        right
    })
    .collect()
}

fn covers(right: &Right, used: &Right) -> bool {
    let (.., name) = right;
    (&right.0, &right.1, &right.2, &right.3) == (&used.0, &used.1, &used.2, &used.3)
        && (name.is_empty() || *name == used.4)
}
