//! Which pods of a node ought to be carried, and what that takes: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::locate::Sought;
use crate::model::identity::Identity;
use crate::model::view::MeshView;
use crate::model::workload::{ObjectName, Workload};

/// A pod that ought to be carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Namespace and name.
    pub name: ObjectName,
    /// The pod's UID.
    pub uid: Arc<str>,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Whom its certificate names.
    pub identity: Identity,
    /// Where its network namespace is, if its manifest says so.
    pub netns: Option<PathBuf>,
}

impl Wanted {
    /// What its namespace is looked for by.
    #[must_use]
    pub fn sought(&self) -> Sought<'_> {
        Sought { uid: &self.uid, path: self.netns.as_deref() }
    }
}

/// Why a pod is no longer carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// It still runs, outside the mesh: its open connections go on.
    Unlabelled,
    /// It is gone, or is another pod now: its connections get a short grace.
    Gone,
    /// It ought to be carried still, but not as it was, or its namespace is elsewhere: new connections wait until it has
    /// joined anew, those that are open get a short grace.
    Changed,
}

/// What it takes to get from the pods that are carried to those that ought to be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Pods to take on.
    pub join: Vec<Wanted>,
    /// UIDs of pods to let go.
    pub leave: Vec<(Arc<str>, Leaving)>,
}

/// The enrolled pods of `node` that have an address and a network namespace to be found (as `findable` says); a pod without
/// either cannot be carried yet.
#[must_use]
pub fn wanted(view: &MeshView, node: &str, findable: impl Fn(Sought<'_>) -> bool) -> BTreeMap<Arc<str>, Wanted> {
    let ready = enrolled(view, node).filter(|w| !w.ips.is_empty() && findable(sought(w)));
    ready.map(want).map(|w| (Arc::clone(&w.uid), w)).collect()
}

/// The enrolled pods of `node` that have no address (any more): they cannot be carried, and must not be let go of.
#[must_use]
pub fn without_address(view: &MeshView, node: &str) -> Vec<Wanted> {
    enrolled(view, node).filter(|w| w.ips.is_empty()).map(want).collect()
}

/// What a workload's namespace is looked for by.
#[must_use]
pub fn sought(workload: &Workload) -> Sought<'_> {
    Sought { uid: &workload.uid, path: workload.netns.as_deref() }
}

fn enrolled<'a>(view: &'a MeshView, node: &'a str) -> impl Iterator<Item = &'a Arc<Workload>> {
    view.workloads().filter(move |w| &*w.node == node && w.is_enrolled())
}

fn want(workload: &Arc<Workload>) -> Wanted {
    Wanted {
        name: workload.pod.clone(),
        uid: Arc::clone(&workload.uid),
        ips: workload.ips.clone(),
        identity: workload.identity.clone(),
        netns: workload.netns.clone(),
    }
}

/// Compares. A pod that changed in any way that matters, or whose namespace is `lost`, leaves and joins anew.
#[must_use]
pub fn steps(
    view: &MeshView,
    wanted: &BTreeMap<Arc<str>, Wanted>,
    carried: &BTreeMap<Arc<str>, Wanted>,
    lost: &BTreeSet<Arc<str>>,
) -> Steps {
    let stays = |uid, pod| wanted.get(uid) == Some(pod) && carried.get(uid) == Some(pod) && !lost.contains(uid);
    let why = |uid, pod: &Wanted| match view.workload(&pod.name) {
        _ if wanted.contains_key(uid) => Leaving::Changed,
        // It has lost its address, to a newer pod or because its status was taken back: what it sends must not leave in clear.
        Some(workload) if workload.uid == pod.uid && workload.is_enrolled() => Leaving::Changed,
        Some(workload) if workload.uid == pod.uid && workload.ips == pod.ips => Leaving::Unlabelled,
        _ => Leaving::Gone,
    };
    let leave = carried.iter().filter(|(uid, pod)| !stays(*uid, *pod));
    let join = wanted.iter().filter(|(uid, pod)| !stays(*uid, *pod));
    Steps {
        leave: leave.map(|(uid, pod)| (Arc::clone(uid), why(uid, pod))).collect(),
        join: join.map(|(_, pod)| pod.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::enrolment::{Enrolment, OutsideReason};
    use crate::model::identity::TrustDomain;
    use crate::model::workload::{Locality, Owner, OwnerKind};

    fn pod(name: &str, node: &str, ip: [u8; 4]) -> Workload {
        Workload {
            pod: ObjectName::new("demo", name),
            uid: format!("uid-{name}").into(),
            ips: vec![ip.into()],
            node: node.into(),
            identity: Identity::new(TrustDomain::default(), "demo", name).unwrap(),
            owner: Owner { kind: OwnerKind::Pod, name: name.into() },
            canonical_name: name.into(),
            canonical_revision: "latest".into(),
            app: "".into(),
            version: "".into(),
            locality: Locality::default(),
            labels: crate::model::policy::selector::Labels::new(),
            host_network: false,
            enrolment: Enrolment::Enrolled,
            netns: Some(format!("/run/netns/{name}").into()),
        }
    }

    fn findable(sought: Sought<'_>) -> bool {
        sought.path.is_some()
    }

    fn view(pods: &[Workload]) -> MeshView {
        MeshView::new(pods.to_vec(), [])
    }

    #[test]
    fn only_enrolled_pods_of_this_node_with_a_namespace_and_an_address_are_wanted() {
        let outside =
            Workload { enrolment: Enrolment::Outside(OutsideReason::NotLabelled), ..pod("out", "a", [10, 0, 0, 4]) };
        let early = Workload { ips: vec![], ..pod("early", "a", [10, 0, 0, 5]) };
        let blind = Workload { netns: None, ..pod("blind", "a", [10, 0, 0, 6]) };
        let pods = [pod("here", "a", [10, 0, 0, 1]), pod("there", "b", [10, 0, 0, 2]), outside, early, blind];
        let names: Vec<_> =
            wanted(&view(&pods), "a", findable).into_values().map(|w| w.name.name.to_string()).collect();
        assert_eq!(names, ["here"]);
    }

    #[test]
    fn a_pod_that_only_left_the_mesh_keeps_its_connections_and_one_that_is_gone_does_not() {
        let before = view(&[pod("one", "a", [10, 0, 0, 1]), pod("two", "a", [10, 0, 0, 2])]);
        let carried = wanted(&before, "a", findable);
        let unlabelled =
            Workload { enrolment: Enrolment::Outside(OutsideReason::OptedOut), ..pod("one", "a", [10, 0, 0, 1]) };
        let after = view(&[unlabelled]);
        let steps = steps(&after, &wanted(&after, "a", findable), &carried, &BTreeSet::new());
        assert_eq!(steps.join, []);
        assert_eq!(steps.leave, [("uid-one".into(), Leaving::Unlabelled), ("uid-two".into(), Leaving::Gone)]);
    }

    #[test]
    fn a_changed_pod_leaves_and_joins_anew_and_an_unchanged_one_is_left_alone() {
        let carried = wanted(&view(&[pod("one", "a", [10, 0, 0, 1]), pod("two", "a", [10, 0, 0, 2])]), "a", findable);
        let after = view(&[pod("one", "a", [10, 0, 0, 9]), pod("two", "a", [10, 0, 0, 2])]);
        let steps = steps(&after, &wanted(&after, "a", findable), &carried, &BTreeSet::new());
        assert_eq!(steps.leave, [("uid-one".into(), Leaving::Changed)], "never without capture in between");
        assert_eq!(steps.join.iter().map(|w| &*w.name.name).collect::<Vec<_>>(), ["one"]);
    }

    #[test]
    fn a_pod_that_lost_its_address_stays_captured() {
        let carried = wanted(&view(&[pod("one", "a", [10, 0, 0, 1])]), "a", findable);
        let after = view(&[Workload { ips: vec![], ..pod("one", "a", [10, 0, 0, 1]) }]);
        let steps = steps(&after, &wanted(&after, "a", findable), &carried, &BTreeSet::new());
        assert_eq!((steps.leave, steps.join), (vec![("uid-one".into(), Leaving::Changed)], vec![]));
        let claims: Vec<_> = without_address(&after, "a").into_iter().map(|w| w.name.name.to_string()).collect();
        assert_eq!(claims, ["one"]);
    }

    #[test]
    fn a_pod_whose_namespace_is_lost_joins_anew_if_it_is_still_wanted() {
        let before = view(&[pod("one", "a", [10, 0, 0, 1]), pod("two", "a", [10, 0, 0, 2])]);
        let carried = wanted(&before, "a", findable);
        let lost = BTreeSet::from(["uid-one".into(), "uid-two".into()]);
        let after = view(&[pod("one", "a", [10, 0, 0, 1])]);
        let steps = steps(&after, &wanted(&after, "a", findable), &carried, &lost);
        assert_eq!(steps.leave, [("uid-one".into(), Leaving::Changed), ("uid-two".into(), Leaving::Gone)]);
        assert_eq!(steps.join.iter().map(|w| &*w.name.name).collect::<Vec<_>>(), ["one"]);
    }
}
