//! What the agent answers when the CNI plugin hands a pod over: not before the pod is carried, or is known to be none of the mesh's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::status::EnrolmentStatus;
use crate::mesh::source::state::MeshState;
use crate::model::arrival::{Arrival, Arrivals};
use crate::model::cni::handover::{Answer, PodReference, Request};
use crate::model::workload::{ObjectName, Workload};

/// How long a pod may take to join; the plugin waits a little longer.
const PATIENCE: Duration = Duration::from_secs(50);

/// Where pods arrive.
#[derive(Clone, Debug)]
pub struct Reception {
    /// This node's name in the mesh state.
    node: Arc<str>,
    /// The sandboxes that were handed over.
    arrivals: watch::Sender<Arc<Arrivals>>,
    /// The mesh as it is known.
    mesh: watch::Receiver<Arc<MeshState>>,
    /// What became of the pods that ought to be carried.
    enrolment: watch::Receiver<Arc<EnrolmentStatus>>,
    /// The containers that somebody waits for.
    awaited: watch::Sender<BTreeSet<String>>,
}

/// What is known of a pod at a moment.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// The mesh carries it.
    Carried,
    /// It is not part of the mesh.
    Outside,
    /// It ought to be carried and is not yet, or is not known; why.
    Waiting(String),
}

impl Reception {
    /// A reception of `node` that puts what arrives into `arrivals`, and reads of the others what became of it.
    #[must_use]
    pub fn new(
        node: Arc<str>,
        arrivals: watch::Sender<Arc<Arrivals>>,
        mesh: watch::Receiver<Arc<MeshState>>,
        enrolment: watch::Receiver<Arc<EnrolmentStatus>>,
    ) -> Self {
        Self { node, arrivals, mesh, enrolment, awaited: watch::Sender::default() }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Add { pod, container, netns, addresses } => {
                self.add(&pod, Arrival { container, netns, ips: addresses }).await
            }
            Request::Check { pod, .. } => match self.standing(&pod) {
                Standing::Carried => Answer::Done { enrolled: true },
                Standing::Outside => Answer::Done { enrolled: false },
                Standing::Waiting(message) => Answer::Failed { message },
            },
            Request::Del { container } => {
                self.forget(|arrived| *arrived == container);
                Answer::Done { enrolled: false }
            }
            Request::Gc { containers } => {
                self.forget(|arrived| !containers.contains(arrived));
                Answer::Done { enrolled: false }
            }
            Request::Status if self.mesh.borrow().loaded => Answer::Done { enrolled: true },
            Request::Status => failed("the agent does not know the state of the cluster yet"),
        }
    }

    async fn add(&self, pod: &PodReference, arrival: Arrival) -> Answer {
        let container = arrival.container.clone();
        self.awaited.send_if_modified(|awaited| {
            awaited.insert(container.clone());
            // Nobody waits for that.
            false
        });
        let answer = self.joined(pod, arrival).await;
        self.awaited.send_if_modified(|awaited| {
            awaited.remove(&container);
            false
        });
        if matches!(answer, Answer::Failed { .. }) {
            // The runtime will not run it.
            self.forget(|arrived| *arrived == container);
        }
        answer
    }

    async fn joined(&self, pod: &PodReference, arrival: Arrival) -> Answer {
        let end = Instant::now() + PATIENCE;
        let (mut mesh, mut enrolment) = (self.mesh.clone(), self.enrolment.clone());
        let mut awaited = self.awaited.subscribe();
        let container = arrival.container.clone();
        let (mut arrival, mut known) = (Some(arrival), false);
        loop {
            // Marked as seen before they are looked at: nothing that comes afterwards is missed.
            mesh.mark_unchanged();
            enrolment.mark_unchanged();
            if !awaited.borrow_and_update().contains(&container) {
                return failed("the container runtime has removed the container meanwhile");
            }
            if self.workload(pod).is_some() {
                known = true;
            } else if known {
                // Nobody would start it any more, and a wait for it would hold up the end of the pod.
                return failed("the pod was deleted before it had joined the mesh");
            }
            self.hand_on(pod, &mut arrival);
            let waiting_for = match self.standing(pod) {
                Standing::Carried => return Answer::Done { enrolled: true },
                Standing::Outside => return Answer::Done { enrolled: false },
                Standing::Waiting(why) => why,
            };
            let news = async {
                tokio::select! {
                    news = mesh.changed() => news,
                    news = enrolment.changed() => news,
                    news = awaited.changed() => news,
                }
            };
            match timeout_at(end, news).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return failed("the agent is ending"),
                Err(_) => return failed(&waiting_for),
            }
        }
    }

    /// Hands the sandbox on, once, as soon as it is known whose it is.
    fn hand_on(&self, pod: &PodReference, arrival: &mut Option<Arrival>) {
        let Some(uid) = self.uid(pod) else { return };
        let Some(arrival) = arrival.take() else { return };
        self.arrivals.send_modify(|arrivals| {
            Arc::make_mut(arrivals).insert(uid, arrival);
        });
    }

    /// The UID, from the runtime or, where that does not tell, from the API server.
    fn uid(&self, pod: &PodReference) -> Option<Arc<str>> {
        pod.uid.as_deref().map(Arc::from).or_else(|| self.workload(pod).map(|workload| Arc::clone(&workload.uid)))
    }

    fn workload(&self, pod: &PodReference) -> Option<Arc<Workload>> {
        let name = ObjectName { namespace: pod.namespace.as_str().into(), name: pod.name.as_str().into() };
        let found = self.mesh.borrow().view.workload(&name).cloned();
        found.filter(|workload| pod.uid.as_deref().is_none_or(|uid| *workload.uid == *uid))
    }

    fn standing(&self, pod: &PodReference) -> Standing {
        if !self.mesh.borrow().loaded {
            return Standing::Waiting("the agent does not know the state of the cluster yet".to_owned());
        }
        let Some(workload) = self.workload(pod) else {
            let why = "the agent has not heard of the pod from the API server yet, or cannot read what it heard";
            return Standing::Waiting(why.to_owned());
        };
        if workload.node != self.node {
            return Standing::Waiting(format!("the API server says that the pod is on node {:?}", &*workload.node));
        }
        if !workload.is_enrolled() {
            return Standing::Outside;
        }
        let enrolment = self.enrolment.borrow();
        match enrolment.pods.iter().find(|status| status.uid == *workload.uid) {
            Some(status) if status.enrolled => Standing::Carried,
            Some(status) => Standing::Waiting(status.waiting_for.clone().unwrap_or_else(|| "it is joining".to_owned())),
            None => Standing::Waiting("it is joining".to_owned()),
        }
    }

    /// Forgets the sandboxes that are gone, and ends the wait for them.
    fn forget(&self, is_gone: impl Fn(&String) -> bool) {
        self.awaited.send_if_modified(|awaited| {
            let before = awaited.len();
            awaited.retain(|container| !is_gone(container));
            awaited.len() < before
        });
        self.arrivals.send_if_modified(|arrivals| {
            let some = arrivals.values().any(|arrival| is_gone(&arrival.container));
            if some {
                Arc::make_mut(arrivals).retain(|_, arrival| !is_gone(&arrival.container));
            }
            some
        });
    }
}

fn failed(message: &str) -> Answer {
    Answer::Failed { message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeSeed as _;
    use serde_json::json;

    use super::*;
    use crate::control::enroll::status::PodStatus;
    use crate::mesh::source::convert::mesh::{Objects, Rules, mesh};
    use crate::mesh::source::objects::kind::Kind;

    /// A node's agent that knows what the test tells it.
    struct Scene {
        mesh: watch::Sender<Arc<MeshState>>,
        enrolment: watch::Sender<Arc<EnrolmentStatus>>,
        reception: Reception,
    }

    impl Scene {
        fn new() -> Self {
            let (mesh, enrolment) = (watch::Sender::default(), watch::Sender::default());
            let reception =
                Reception::new("a".into(), watch::Sender::default(), mesh.subscribe(), enrolment.subscribe());
            Self { mesh, enrolment, reception }
        }

        /// The API server has these pods: name and mode.
        fn pods(&self, pods: &[(&str, &str)]) {
            let mut objects = Vec::new();
            for (name, mode) in pods {
                let labels = json!({"istio.io/dataplane-mode": mode});
                let meta = json!({"namespace": "demo", "name": name, "uid": name, "labels": labels});
                objects.push(
                    Kind::Pod.deserialize(json!({"metadata": meta, "spec": {"nodeName": "a"}})).expect("a good pod"),
                );
            }
            let mut sorted = Objects::default();
            objects.iter().for_each(|object| sorted.add(object));
            let view = Arc::new(mesh(&sorted, &Rules::default()).view);
            self.mesh.send_replace(Arc::new(MeshState { view, loaded: true, ..MeshState::default() }));
        }

        fn carries(&self, name: &str) {
            let pod = PodStatus { enrolled: true, ..PodStatus::default() };
            let pods = vec![PodStatus { uid: name.into(), ..pod }];
            self.enrolment.send_replace(Arc::new(EnrolmentStatus { pods }));
        }

        /// The answer to ADD, and what is done while it is waited for. No answer comes before that.
        async fn add(&self, meanwhile: impl AsyncFnOnce()) -> Answer {
            let pod = PodReference { namespace: "demo".into(), name: "web".into(), uid: None };
            let (container, netns) = ("c1".to_owned(), "/run/netns/x".into());
            let adding = self.reception.answer(Request::Add { pod, container, netns, addresses: vec![] });
            tokio::pin!(adding);
            tokio::select! {
                biased;
                answer = &mut adding => panic!("{answer:?} before anything happened"),
                () = meanwhile() => {}
            }
            adding.await
        }

        fn arrived(&self) -> Vec<Arc<str>> {
            self.reception.arrivals.borrow().keys().cloned().collect()
        }
    }

    #[track_caller]
    fn assert_failed(answer: &Answer, why: &str) {
        let Answer::Failed { message } = answer else { panic!("{answer:?}") };
        assert!(message.contains(why), "{message}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_of_the_mesh_is_held_until_it_is_carried_and_another_is_not() {
        let scene = Scene::new();
        let answer = scene
            .add(async || {
                scene.pods(&[("web", "ambient")]);
                tokio::time::sleep(Duration::from_secs(9)).await;
                assert_eq!(scene.arrived(), ["web".into()]);
                scene.carries("web");
            })
            .await;
        assert_eq!(answer, Answer::Done { enrolled: true });
        assert_eq!(scene.arrived(), ["web".into()]);
        let other = Scene::new();
        assert_eq!(other.add(async || other.pods(&[("web", "none")])).await, Answer::Done { enrolled: false });
        let silent = Scene::new();
        assert_failed(&silent.add(async || ()).await, "does not know the state of the cluster yet");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_is_deleted_while_it_is_held_is_given_up_at_once() {
        let scene = Scene::new();
        scene.pods(&[("web", "ambient")]);
        let begun = Instant::now();
        let answer = scene.add(async || scene.pods(&[])).await;
        assert_failed(&answer, "deleted before it had joined");
        assert_eq!((begun.elapsed(), scene.arrived()), (Duration::ZERO, vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_that_goes_while_it_is_held_is_forgotten() {
        for gone in [Request::Del { container: "c1".into() }, Request::Gc { containers: vec!["c2".into()] }] {
            let scene = Scene::new();
            let begun = Instant::now();
            // The agent has not even heard of the pod.
            let answer = scene.add(async || drop(scene.reception.answer(gone.clone()).await)).await;
            assert_failed(&answer, "removed the container meanwhile");
            scene.pods(&[("web", "ambient")]);
            assert_eq!((begun.elapsed(), scene.arrived()), (Duration::ZERO, vec![]), "{gone:?}");
        }
    }
}
