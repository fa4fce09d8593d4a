//! What is to be written about which pod: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::control::enroll::status::{EnrolmentStatus, PodStatus};
use crate::drivers::cluster::pods::PodRef;
use crate::mesh::source::state::MeshState;
use crate::model::workload::Workload;

/// How long a pod has to wait before that is worth an Event: most waiting is over by then.
const WORTH_A_WORD: Duration = Duration::from_secs(5);

/// The least time between two Events about one pod that say different things.
const NEWS: Duration = Duration::from_secs(60);

/// The least time between two Events about one pod that say the same.
const REMINDER: Duration = Duration::from_secs(600);

/// An annotation that is to be set or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marking {
    /// On which pod.
    pub pod: PodRef,
    /// Whether the pod is carried.
    pub on: bool,
}

/// Where the annotations differ from the truth.
///
/// A pod that ought to be carried and is not yet keeps an annotation that it has: it was captured before, and still is.
#[must_use]
pub fn markings(state: &MeshState, status: &EnrolmentStatus, node: &str) -> Vec<Marking> {
    if !state.loaded {
        return Vec::new();
    }
    let carried: BTreeSet<&str> = status.pods.iter().filter(|pod| pod.enrolled).map(|pod| pod.uid.as_str()).collect();
    let here = state.view.workloads().filter(|workload| &*workload.node == node);
    let mut markings: Vec<Marking> = here
        .filter_map(|workload| {
            let (carried, marked) = (carried.contains(&*workload.uid), state.marked.contains(&workload.uid));
            let wrong = carried && !marked || marked && !carried && !workload.is_enrolled();
            wrong.then(|| Marking { pod: reference(workload), on: carried })
        })
        .collect();
    markings.sort_by(|a, b| a.pod.cmp(&b.pod));
    markings
}

/// All pods of the node that have the annotation, for an agent that leaves for good.
#[must_use]
pub fn marked(state: &MeshState) -> Vec<PodRef> {
    state
        .view
        .workloads()
        .filter(|workload| state.marked.contains(&workload.uid))
        .map(|workload| reference(workload))
        .collect()
}

fn reference(workload: &Workload) -> PodRef {
    PodRef {
        namespace: workload.pod.namespace.to_string(),
        name: workload.pod.name.to_string(),
        uid: workload.uid.to_string(),
    }
}

/// Remembers what was said about pods that cannot be carried.
#[derive(Debug, Default)]
pub struct Complaints(BTreeMap<String, Complaint>);

#[derive(Debug)]
struct Complaint {
    since: Instant,
    told: Option<(Instant, String)>,
}

impl Complaints {
    /// What is to be said at `now`: the pod and why it waits. Each is taken as said.
    pub fn due(&mut self, status: &EnrolmentStatus, now: Instant) -> Vec<(PodRef, String)> {
        let waiting: BTreeMap<&str, &PodStatus> =
            status.pods.iter().filter(|pod| !pod.enrolled).map(|pod| (pod.uid.as_str(), pod)).collect();
        self.0.retain(|uid, _| waiting.contains_key(uid.as_str()));
        let mut due = Vec::new();
        for (uid, pod) in waiting {
            let why = pod.waiting_for.clone().unwrap_or_default();
            let complaint = self.0.entry(uid.to_owned()).or_insert(Complaint { since: now, told: None });
            if complaint.is_due(&why, now) {
                complaint.told = Some((now, why.clone()));
                let pod = PodRef { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() };
                due.push((pod, why));
            }
        }
        due
    }
}

impl Complaint {
    fn is_due(&self, why: &str, now: Instant) -> bool {
        match &self.told {
            None => now.saturating_duration_since(self.since) >= WORTH_A_WORD,
            Some((at, before)) => {
                let least = if before == why { REMINDER } else { NEWS };
                now.saturating_duration_since(*at) >= least
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde::de::DeserializeSeed as _;
    use serde_json::json;

    use super::*;
    use crate::mesh::source::convert::mesh::{Objects, Rules, mesh};
    use crate::mesh::source::objects::kind::Kind;

    fn status(uid: &str, waiting_for: Option<&str>) -> PodStatus {
        PodStatus {
            namespace: "demo".into(),
            name: uid.into(),
            uid: uid.into(),
            ips: vec![],
            identity: String::new(),
            netns: None,
            enrolled: waiting_for.is_none(),
            waiting_for: waiting_for.map(str::to_owned),
        }
    }

    fn state(pods: &[(&str, &str)], marked: &[&str]) -> MeshState {
        let objects: Vec<_> = pods
            .iter()
            .map(|(name, mode)| {
                let pod = json!({
                    "metadata": {"namespace": "demo", "name": name, "uid": name, "labels": {"istio.io/dataplane-mode": mode}},
                    "spec": {"nodeName": "a"},
                });
                Kind::Pod.deserialize(pod).unwrap()
            })
            .collect();
        let mut sorted = Objects::default();
        objects.iter().for_each(|object| sorted.add(object));
        MeshState {
            view: Arc::new(mesh(&sorted, &Rules::default()).view),
            marked: Arc::new(marked.iter().map(|uid| Arc::from(*uid)).collect()),
            loaded: true,
            ..MeshState::default()
        }
    }

    fn wrong(state: &MeshState, pods: Vec<PodStatus>, node: &str) -> Vec<(String, bool)> {
        let markings = markings(state, &EnrolmentStatus { pods }, node);
        markings.into_iter().map(|marking| (marking.pod.name, marking.on)).collect()
    }

    #[test]
    fn the_annotation_follows_what_is_so() {
        let on = [("new", "ambient"), ("known", "ambient"), ("waits", "ambient"), ("left", "none"), ("never", "none")];
        let state = state(&on, &["known", "waits", "left"]);
        let pods = || vec![status("new", None), status("known", None), status("waits", Some("its certificate"))];
        assert_eq!(wrong(&state, pods(), "a"), [("left".to_owned(), false), ("new".to_owned(), true)]);
        assert_eq!(wrong(&state, pods(), "b"), [], "other nodes' agents write about their own pods");
        assert_eq!(wrong(&MeshState { loaded: false, ..state }, pods(), "a"), []);
    }

    #[test]
    fn a_pod_that_waits_long_is_complained_about_and_not_all_the_time() {
        let mut complaints = Complaints::default();
        let start = Instant::now();
        let mut at = |seconds: u64, why: Option<&str>| {
            let status = EnrolmentStatus { pods: vec![status("web", why)] };
            complaints.due(&status, start + Duration::from_secs(seconds)).len()
        };
        assert_eq!((at(0, Some("x")), at(4, Some("x")), at(6, Some("x"))), (0, 0, 1));
        assert_eq!((at(20, Some("y")), at(70, Some("y")), at(71, Some("x"))), (0, 1, 0));
        assert_eq!((at(600, Some("y")), at(700, Some("y"))), (0, 1));
        assert_eq!((at(701, None), at(702, Some("x")), at(708, Some("x"))), (0, 0, 1), "another time of waiting");
    }
}
