//! The API server: whether it answers, what we may do there, and whether our clocks agree.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::control::diagnose::check::Finding;
use crate::drivers::cluster::Cluster;
use crate::drivers::cluster::review::access::{Right, may};

/// Clocks that differ by more make new certificates invalid for a while.
const WORTH_A_LOOK: Duration = Duration::from_secs(10);

/// Clocks that differ by more make certificates and tokens invalid.
const TOO_FAR: Duration = Duration::from_secs(60);

/// Looks at the API server.
pub(super) async fn check(kubeconfig: Option<&Path>) -> Vec<Finding> {
    const CHECK: &str = "API server";
    if kubeconfig.is_none() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() {
        return vec![Finding::skipped(CHECK, "neither --kubeconfig nor a pod of a cluster")];
    }
    let cluster = match Cluster::connect(kubeconfig).await {
        Ok(cluster) => cluster,
        Err(error) => {
            let fix = "give a --kubeconfig, or mount the pod's service account token";
            return vec![Finding::failed(CHECK, error.to_string(), fix)];
        }
    };
    match cluster.time().await {
        Ok(theirs) => {
            let mut findings = vec![Finding::ok(CHECK, "answers")];
            findings.extend(theirs.map(|theirs| clocks(SystemTime::now(), theirs)));
            findings.extend(rights(&cluster).await);
            findings
        }
        Err(error) => vec![Finding::failed(CHECK, error.to_string(), "see the network and the credentials")],
    }
}

fn clocks(ours: SystemTime, theirs: SystemTime) -> Finding {
    const CHECK: &str = "clocks";
    let apart = ours.duration_since(theirs).unwrap_or_else(|error| error.duration());
    // Theirs is told to a second.
    let apart = Duration::from_secs(apart.as_secs());
    let told = format!("{} apart from the API server's", humantime::format_duration(apart));
    let fix = "keep the clocks of all nodes in step: certificates and tokens are judged by them";
    if apart > TOO_FAR {
        Finding::failed(CHECK, told, fix)
    } else if apart > WORTH_A_LOOK {
        Finding::warning(CHECK, told, fix)
    } else {
        Finding::ok(CHECK, told)
    }
}

/// What a node's agent does. `deploy/` has the same as a ClusterRole.
fn needed() -> Vec<Right> {
    let right = |group, resource, verb, subresource| Right { verb, group, resource, subresource, object: None };
    let mut rights = Vec::new();
    for (group, resource) in [
        ("", "namespaces"),
        ("", "nodes"),
        ("", "pods"),
        ("", "services"),
        ("discovery.k8s.io", "endpointslices"),
        ("security.istio.io", "peerauthentications"),
        ("security.istio.io", "authorizationpolicies"),
    ] {
        rights.extend(["list", "watch"].map(|verb| right(group, resource, verb, None)));
    }
    rights.push(right("", "pods", "patch", Some("status")));
    rights.push(right("", "events", "create", None));
    rights
}

async fn rights(cluster: &Cluster) -> Vec<Finding> {
    const CHECK: &str = "RBAC";
    let mut lacking = Vec::new();
    let needed = needed();
    for right in &needed {
        match may(cluster, right).await {
            Ok(true) => {}
            Ok(false) => lacking.push(right.to_string()),
            Err(error) => return vec![Finding::skipped(CHECK, format!("cannot be asked: {error}"))],
        }
    }
    if lacking.is_empty() {
        return vec![Finding::ok(CHECK, format!("all {} rights of a node's agent", needed.len()))];
    }
    let what = format!("these credentials may not {}", lacking.join(", "));
    vec![Finding::failed(CHECK, what, "bind the ClusterRole sotto-node (deploy/) to the agent's service account")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::diagnose::check::Outcome;

    #[test]
    fn clocks_may_differ_a_little() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
        for (ours, theirs, outcome) in [
            (0, 0, Outcome::Ok),
            (0, 10, Outcome::Ok),
            (11, 0, Outcome::Warning),
            (0, 60, Outcome::Warning),
            (0, 61, Outcome::Failed),
            (3600, 0, Outcome::Failed),
        ] {
            assert_eq!(clocks(at(ours), at(theirs)).outcome, outcome, "{ours} {theirs}");
        }
    }
}
