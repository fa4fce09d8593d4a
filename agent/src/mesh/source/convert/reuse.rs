//! Two pods with one address: an address is given to a new pod while the old one is still in the books.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use crate::mesh::source::field::FieldPath;
use crate::mesh::source::objects::kind::{Kind, ObjectRef};
use crate::mesh::source::objects::pod::Pod;
use crate::mesh::source::problem::{Fault, Problem};
use crate::model::workload::{ObjectName, Workload};

/// What speaks for a pod in a dispute about an address; the greatest wins.
///
/// A pod that runs beats one that is on its way in or out. Between two that run, an enrolled one wins, so that nobody can make
/// traffic to it leave in clear text by claiming its address; then the newer one.
type Claim<'a> = (bool, bool, Option<&'a str>, Reverse<&'a ObjectName>);

/// Takes each disputed address from all pods but one. Pods of the host network have their node's by right.
pub(super) fn settle(found: Vec<(Workload, &Pod)>, problems: &mut Vec<Problem>) -> Vec<Workload> {
    let mut owners: HashMap<IpAddr, usize> = HashMap::with_capacity(found.len());
    let mut disputed: Vec<(usize, IpAddr)> = Vec::new();
    for (index, (workload, _)) in found.iter().enumerate().filter(|(_, (workload, _))| !workload.host_network) {
        for &ip in &workload.ips {
            let Some(&other) = owners.get(&ip) else {
                owners.insert(ip, index);
                continue;
            };
            if claim(&found[index]) > claim(&found[other]) {
                owners.insert(ip, index);
                disputed.push((other, ip));
            } else {
                disputed.push((index, ip));
            }
        }
    }
    for &(loser, ip) in &disputed {
        let winner = owners.get(&ip).map_or(loser, |&winner| winner);
        problems.push(problem(&found[loser].0, &found[winner].0, ip));
    }
    let mut workloads: Vec<Workload> = found.into_iter().map(|(workload, _)| workload).collect();
    for (loser, ip) in disputed {
        workloads[loser].ips.retain(|other| *other != ip);
    }
    workloads
}

fn claim<'a>((workload, pod): &'a (Workload, &Pod)) -> Claim<'a> {
    // Manifests written by hand have no phase.
    let runs = matches!(pod.status.phase.as_str(), "Running" | "") && !pod.metadata.is_terminating();
    (runs, workload.is_enrolled(), pod.metadata.creation_timestamp.as_deref(), Reverse(&workload.pod))
}

fn problem(loser: &Workload, winner: &Workload, ip: IpAddr) -> Problem {
    let object = |workload: &Workload| ObjectRef::new(Kind::Pod, &workload.pod.namespace, &workload.pod.name);
    let message =
        format!("{ip} is the address of {} too, which has the better claim and gets the traffic", object(winner));
    Fault::new(FieldPath::of("status.podIP"), message).notice_of(object(loser))
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeSeed as _;
    use serde_json::{Value, json};

    use crate::mesh::source::convert::mesh::{Objects, Rules, mesh};
    use crate::mesh::source::objects::kind::Object;

    use super::*;

    /// A pod with the address 10.0.0.1: `old` or `new`, in this phase, with this mode; `!` in front of the phase: on its way out.
    fn pod(name: &str, phase: &str, mode: &str) -> Object {
        let leaving = phase.starts_with('!');
        let object = json!({
            "metadata": {
                "name": name, "namespace": "demo", "uid": name, "labels": {"istio.io/dataplane-mode": mode},
                "creationTimestamp": if name == "old" { "2026-01-01T00:00:00Z" } else { "2026-01-01T00:01:00Z" },
                "deletionTimestamp": if leaving { json!("2026-01-01T00:02:00Z") } else { Value::Null },
            },
            "status": {"phase": phase.trim_start_matches('!'), "podIP": "10.0.0.1"},
        });
        Kind::Pod.deserialize(object).unwrap()
    }

    #[track_caller]
    fn wins(winner: &str, old: (&str, &str), new: (&str, &str)) {
        let pods = [pod("old", old.0, old.1), pod("new", new.0, new.1)];
        for pods in [[&pods[0], &pods[1]], [&pods[1], &pods[0]]] {
            let mut objects = Objects::default();
            pods.into_iter().for_each(|pod| objects.add(pod));
            let mesh = mesh(&objects, &Rules::default());
            let owner = mesh.view.workload_at([10, 0, 0, 1].into()).map(|workload| workload.pod.name.to_string());
            assert_eq!(owner.as_deref(), Some(winner));
            let others = mesh.view.workloads().filter(|workload| !workload.ips.is_empty()).count();
            assert_eq!((others, mesh.problems.len()), (1, 1), "{:?}", mesh.problems);
            assert!(mesh.problems[0].to_string().contains(&format!("address of Pod demo/{winner} too")));
            assert!(!mesh.problems[0].may_hide_pods());
        }
    }

    #[test]
    fn the_pod_that_runs_and_is_newer_has_the_address() {
        wins("new", ("Running", "ambient"), ("Running", "ambient"));
        wins("new", ("!Running", "ambient"), ("Running", "ambient"));
        wins("new", ("!Running", "ambient"), ("Running", "none"));
        wins("old", ("Running", "ambient"), ("Pending", "ambient"));
        wins("new", ("!Running", "none"), ("!Running", "none"));
    }

    #[test]
    fn an_enrolled_pod_that_runs_is_not_robbed_of_its_address() {
        wins("old", ("Running", "ambient"), ("Running", "none"));
        wins("new", ("Running", "none"), ("Running", "ambient"));
    }
}
