//! What the agent answers when the CNI plugin hands a pod over: not before the pod is carried, or is known to be none of the mesh's.

use std::net::IpAddr;
use std::path::PathBuf;
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
    pub node: Arc<str>,
    /// The sandboxes that were handed over.
    pub arrivals: watch::Sender<Arc<Arrivals>>,
    /// The mesh as it is known.
    pub mesh: watch::Receiver<Arc<MeshState>>,
    /// What became of the pods that ought to be carried.
    pub enrolment: watch::Receiver<Arc<EnrolmentStatus>>,
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
    /// Answers one request.
    pub async fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Add { pod, container, netns, addresses } => self.add(pod, container, netns, addresses).await,
            Request::Check { pod, .. } => match self.standing(&pod) {
                Standing::Carried => Answer::Done { enrolled: true },
                Standing::Outside => Answer::Done { enrolled: false },
                Standing::Waiting(message) => Answer::Failed { message },
            },
            Request::Del { container } => {
                self.keep(|_, arrival| arrival.container != container);
                Answer::Done { enrolled: false }
            }
            Request::Gc { containers } => {
                self.keep(|_, arrival| containers.contains(&arrival.container));
                Answer::Done { enrolled: false }
            }
            Request::Status if self.mesh.borrow().loaded => Answer::Done { enrolled: true },
            Request::Status => {
                Answer::Failed { message: "the agent does not know the state of the cluster yet".to_owned() }
            }
        }
    }

    async fn add(&self, pod: PodReference, container: String, netns: PathBuf, ips: Vec<IpAddr>) -> Answer {
        let end = Instant::now() + PATIENCE;
        let (mut mesh, mut enrolment) = (self.mesh.clone(), self.enrolment.clone());
        let mut arrival = Some(Arrival { container, netns, ips });
        loop {
            // Marked as seen before they are looked at: nothing that comes afterwards is missed.
            mesh.mark_unchanged();
            enrolment.mark_unchanged();
            if arrival.is_some()
                && let Some(uid) = self.uid(&pod)
                && let Some(arrival) = arrival.take()
            {
                self.arrivals.send_modify(|arrivals| {
                    Arc::make_mut(arrivals).insert(uid, arrival);
                });
            }
            let waiting_for = match self.standing(&pod) {
                Standing::Carried => return Answer::Done { enrolled: true },
                Standing::Outside => return Answer::Done { enrolled: false },
                Standing::Waiting(why) => why,
            };
            let news = async {
                tokio::select! {
                    news = mesh.changed() => news,
                    news = enrolment.changed() => news,
                }
            };
            match timeout_at(end, news).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Answer::Failed { message: "the agent is ending".to_owned() },
                Err(_) => return Answer::Failed { message: waiting_for },
            }
        }
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

    fn keep(&self, wanted: impl Fn(&Arc<str>, &Arrival) -> bool) {
        self.arrivals.send_if_modified(|arrivals| {
            let gone = arrivals.iter().any(|(uid, arrival)| !wanted(uid, arrival));
            if gone {
                Arc::make_mut(arrivals).retain(|uid, arrival| wanted(uid, arrival));
            }
            gone
        });
    }
}
