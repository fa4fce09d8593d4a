//! What is in the API server is in the mesh, and what changes there changes here.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use harness::{ApiServer, eventually};
use serde_json::json;
use sotto::drivers::cluster::Cluster;
use sotto::mesh::source::convert::mesh::Rules;
use sotto::mesh::source::kube::collect::{Config, KubeSource};
use sotto::mesh::source::state::MeshState;
use sotto::model::workload::ObjectName;
use sotto::runtime::ready::Readiness;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::objects;

/// Everything here is over in moments, unless the machine is very busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A source that follows an API server, on a thread of its own.
pub(crate) struct Followed {
    pub(crate) readiness: Readiness,
    state: watch::Receiver<Arc<MeshState>>,
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Followed {
    pub(crate) fn start(kubeconfig: &Path) -> Self {
        let (sender, state) = watch::channel(Arc::<MeshState>::default());
        let (readiness, stop) = (Readiness::new(), CancellationToken::new());
        let (path, ready, token) = (kubeconfig.to_owned(), readiness.clone(), stop.clone());
        let (begun, begins) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let cluster = Cluster::connect(Some(&path)).await.unwrap();
                let arrivals = watch::channel(Arc::default()).1;
                let config = Config { node: "node-a".into(), rules: Rules::default(), arrivals };
                let source = KubeSource::new(cluster, config, &ready);
                begun.send(()).unwrap();
                source.run(sender, token.cancelled()).await;
            });
        });
        begins.recv().unwrap();
        Self { readiness, state, stop, thread: Some(thread) }
    }

    pub(crate) fn state(&self) -> Arc<MeshState> {
        Arc::clone(&self.state.borrow())
    }

    /// Waits for a state.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, condition: impl Fn(&MeshState) -> bool) -> Arc<MeshState> {
        self.wait_for(SOON, what, condition)
    }

    #[track_caller]
    pub(crate) fn wait_for(
        &self,
        limit: Duration,
        what: &str,
        condition: impl Fn(&MeshState) -> bool,
    ) -> Arc<MeshState> {
        eventually(limit, what, || Some(self.state()).filter(|state| condition(state)))
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the source has panicked");
    }
}

pub(crate) fn has(state: &MeshState, namespace: &str, pod: &str) -> bool {
    state.view.workload(&ObjectName::new(namespace, pod)).is_some()
}

pub(crate) fn enrolled(state: &MeshState, namespace: &str, pod: &str) -> bool {
    state.view.workload(&ObjectName::new(namespace, pod)).is_some_and(|workload| workload.is_enrolled())
}

#[test]
fn the_mesh_follows_the_cluster() {
    let Some(server) = ApiServer::start("the_mesh_follows_the_cluster") else { return };
    server.create_all(&[objects::node("node-a"), objects::namespace("demo", &json!({}))]);
    server.create_all(&[
        objects::pod("demo", "web", "10.0.0.1"),
        objects::service("demo", "web", "10.96.0.10"),
        objects::slice("demo", "web", "10.0.0.1"),
    ]);
    let followed = Followed::start(&server.kubeconfig());
    let state = followed.wait("the first state is complete", |state| state.loaded);
    assert!(followed.readiness.pending().is_empty(), "{:?}", followed.readiness.pending());
    assert!(has(&state, "demo", "web") && !enrolled(&state, "demo", "web"));
    let service = state.view.services().find(|service| &*service.name.name == "web").unwrap();
    assert_eq!(service.port(80).unwrap().endpoints[0].address, "10.0.0.1:8080".parse().unwrap(), "a v1beta1 slice");
    assert_eq!(&*state.view.workload(&ObjectName::new("demo", "web")).unwrap().locality.zone, "z1");
    assert!(state.problems.is_empty(), "{:?}", state.problems);

    server.patch("/api/v1/namespaces/demo", &json!({"metadata": {"labels": {"istio.io/dataplane-mode": "ambient"}}}));
    followed.wait("a label enrols", |state| enrolled(state, "demo", "web"));
    server.create(&objects::pod("demo", "late", "10.0.0.2"));
    followed.wait("a new pod is there", |state| enrolled(state, "demo", "late"));
    server.patch("/api/v1/namespaces/demo", &json!({"metadata": {"labels": {"istio.io/dataplane-mode": null}}}));
    followed.wait("without the label it leaves", |state| !enrolled(state, "demo", "web"));
    server.delete("/api/v1/namespaces/demo/pods/web");
    followed.wait("a pod that is gone is gone", |state| !has(state, "demo", "web") && has(state, "demo", "late"));
    let mark = json!({"metadata": {"annotations": {"ambient.istio.io/redirection": "enabled"}}});
    server.patch("/api/v1/namespaces/demo/pods/late", &mark);
    followed.wait("a mark is seen", |state| state.marked.len() == 1);
}

#[test]
fn a_kind_that_is_defined_later_is_found_and_a_wrong_object_spoils_nothing() {
    let Some(server) = ApiServer::start("a_kind_that_is_defined_later") else { return };
    server.create_all(&[objects::namespace("demo", &json!({})), objects::pod("demo", "web", "10.0.0.1")]);
    let followed = Followed::start(&server.kubeconfig());
    followed.wait("it is complete without the kind", |state| state.loaded);
    server.create(&objects::peer_authentications());
    eventually(SOON, "the kind can be used", || {
        // Discovery names it before there is somebody to ask for it.
        let list = server.get("/apis/security.istio.io/v1beta1/namespaces/demo/peerauthentications");
        (list["kind"] == "PeerAuthenticationList").then_some(())
    });
    let strict = |state: &MeshState| {
        let policies = state.view.policies_of(&ObjectName::new("demo", "web")).unwrap();
        let request =
            sotto::model::policy::rule::Request::new(None, "10.9.9.9".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
        !sotto::model::policy::evaluate::evaluate(&policies, &request).allowed()
    };
    server.create(&objects::peer_authentication("demo", "strict", "STRICT"));
    followed.wait_for(SOON * 2, "the policy is in force", strict);

    let path = "/apis/security.istio.io/v1beta1/namespaces/demo/peerauthentications/strict";
    server.patch(path, &json!({"spec": {"mtls": {"mode": "STRIKT"}}}));
    let state = followed.wait("the fault is reported", |state| !state.problems.is_empty());
    let said = state.problems[0].to_string();
    assert!(
        said.contains("PeerAuthentication demo/strict: spec.mtls.mode") && said.contains("keeps serving"),
        "{said}"
    );
    assert!(strict(&state), "what was good serves on");
    server.create(&objects::pod("demo", "other", "10.0.0.2"));
    followed.wait("other objects go their way", |state| has(state, "demo", "other"));
    server.patch(path, &json!({"spec": {"mtls": {"mode": "PERMISSIVE"}}}));
    followed.wait("mended", |state| state.problems.is_empty() && !strict(state));
}

#[test]
fn of_two_pods_with_one_address_one_has_it_and_the_other_is_named() {
    let Some(server) = ApiServer::start("of_two_pods_with_one_address") else { return };
    let ambient = json!({"istio.io/dataplane-mode": "ambient"});
    server.create_all(&[objects::namespace("demo", &ambient), objects::namespace("plain", &json!({}))]);
    server.create(&objects::pod("demo", "web", "10.0.0.1"));
    let followed = Followed::start(&server.kubeconfig());
    followed.wait("the first pod", |state| enrolled(state, "demo", "web"));
    // Somebody outside of the mesh claims the address.
    let owner = |state: &MeshState| {
        let address = "10.0.0.1".parse().unwrap();
        let mut owners = state.view.workloads().filter(|workload| workload.ips.contains(&address));
        let names: Vec<_> = owners.by_ref().map(|workload| workload.pod.to_string()).collect();
        names.join(" ")
    };
    server.create(&objects::pod("plain", "thief", "10.0.0.1"));
    let state = followed.wait("the claim is reported", |state| !state.problems.is_empty());
    let said = state.problems[0].to_string();
    assert!(said.contains("Pod plain/thief") && said.contains("10.0.0.1 is the address of Pod demo/web"), "{said}");
    assert_eq!(owner(&state), "demo/web", "traffic to it does not leave in clear");
    server.patch("/api/v1/namespaces/demo/pods/web/status", &json!({"status": {"phase": "Succeeded"}}));
    let state = followed.wait("the first has ended", |state| state.problems.is_empty());
    assert_eq!(owner(&state), "plain/thief", "who has ended has no address");
}
