//! `sotto controller` on a real API server: real tokens, real Secrets, the real program in several replicas, with the rights that an
//! installation gives it and no others. The other end is the agent's own client and store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Controller, eventually};
use serde_json::json;
use sotto::control::authority::remote::{self, RemoteAuthority};
use sotto::drivers::certs::store::{CertificateStore, StoreConfig};

use crate::following::SOON;
use crate::lab::{Lab, SYSTEM, ask, greet, identity, refused, runtime};

#[test]
fn an_agent_gets_the_identities_of_its_node_and_no_others() {
    let Some(lab) = Lab::new("an_agent_gets_the_identities_of_its_node_and_no_others") else { return };
    let controller = Controller::start(&lab.server, &[]);
    controller.wait_ready();
    let agent = lab.agent(&controller, &lab.token("sotto-node", "agent-a", "istio-ca"));
    let issued = ask(&agent, "client").unwrap_or_else(|error| panic!("{error}\n{}", controller.log()));
    assert_eq!((issued.chain.len(), issued.roots.len()), (2, 1));

    refused(&agent, "far", "spiffe://cluster.local/ns/demo/sa/far has no pod on the caller's node node-a");
    refused(&agent, "nobody", "has no pod on the caller's node node-a");
    lab.add_pod("demo", "host", ("host", "node-a"), &json!({ "hostNetwork": true }));
    refused(&agent, "host", "has no pod on the caller's node node-a");
    lab.add_pod("demo", "late", ("late", "node-a"), &json!({}));
    ask(&agent, "late").unwrap();
    lab.server.patch("/api/v1/namespaces/demo/pods/late/status", &json!({ "status": { "phase": "Succeeded" } }));
    refused(&agent, "late", "has no pod on the caller's node node-a");

    let with = |token: &str| lab.agent(&controller, token);
    refused(
        &with(&lab.token("somebody", "other-a", "istio-ca")),
        "client",
        "sotto-system/somebody may not ask for the identities of others",
    );
    refused(&with(&lab.token("sotto-node", "", "istio-ca")), "client", "the token is not bound to a pod");
    refused(&with(&lab.token("sotto-node", "agent-a", "vault")), "client", "the API server does not accept the token");
    refused(&with("eyJhbGciOiJub25lIn0.e30."), "client", "the API server does not accept the token");
    let far = with(&lab.token("sotto-node", "agent-b", "istio-ca"));
    ask(&far, "far").unwrap();
    lab.server.delete(&format!("{SYSTEM}/pods/agent-b"));
    // The API server remembers its own answers for up to ten seconds; the pod itself is asked for each time.
    refused(&far, "far", "");

    let log = controller.log();
    assert!(log.contains("no certificate issued") && log.contains("sotto-system/somebody"), "{log}");
    assert!(!log.contains("PRIVATE") && !log.contains("eyJ"), "no key and no token in the log");
    assert!(
        controller.metrics().contains("sotto_ca_requests_total{outcome=\"not_on_node\"} 4"),
        "{}",
        controller.metrics()
    );
    assert!(controller.terminate().success());
}

#[test]
fn replicas_share_one_root_and_survive_their_leader() {
    let Some(lab) = Lab::new("replicas_share_one_root_and_survive_their_leader") else { return };
    let replicas: Vec<_> = (0..3).map(|_| Controller::start(&lab.server, &[])).collect();
    replicas.iter().for_each(Controller::wait_ready);
    let token = lab.token("sotto-node", "agent-a", "istio-ca");
    let roots: Vec<_> =
        replicas.iter().map(|replica| ask(&lab.agent(replica, &token), "client").unwrap().roots).collect();
    assert!(roots.iter().all(|other| *other == roots[0]), "all sign under one root");
    let made = replicas.iter().filter(|replica| replica.log().contains("made a new certificate authority")).count();
    assert_eq!(made, 1);
    assert_eq!(replicas.iter().filter(|replica| replica.leads()).count(), 1);

    let leader = replicas.iter().find(|replica| replica.leads()).unwrap();
    leader.kill();
    for replica in replicas.iter().filter(|replica| replica.address() != leader.address()) {
        ask(&lab.agent(replica, &token), "client").unwrap();
    }
    let next = eventually(SOON, "another replica leads", || replicas.iter().find(|replica| replica.leads()));
    // What the old one left the new one looks after, as it is.
    assert_eq!(ask(&lab.agent(next, &token), "client").unwrap().roots, roots[0]);
    assert!(next.terminate().success());
    let last =
        replicas.iter().find(|replica| replica.address() != leader.address() && replica.address() != next.address());
    let since = Instant::now();
    eventually(SOON, "the last replica leads", || last.unwrap().leads().then_some(()));
    println!("leadership given back was taken after {:?}", since.elapsed());
}

#[test]
fn a_root_is_replaced_while_workloads_talk_to_each_other() {
    let Some(lab) = Lab::new("a_root_is_replaced_while_workloads_talk_to_each_other") else { return };
    let short = ["--max-cert-lifetime", "6s", "--rotation-wait", "10s"];
    let replicas = [Controller::start(&lab.server, &short), Controller::start(&lab.server, &short)];
    replicas.iter().for_each(Controller::wait_ready);
    // Two nodes, each with another replica.
    let agents = [("agent-a", &replicas[0]), ("agent-b", &replicas[1])]
        .map(|(pod, replica)| lab.agent(replica, &lab.token("sotto-node", pod, "istio-ca")));
    let first = lab.roots();
    let kubelet = Kubelet { bundles: Mutex::new(vec![first.clone()]), ..Kubelet::default() };
    thread::scope(|scope| {
        scope.spawn(|| kubelet.run(&lab));
        let _stops = Stop(&kubelet.stop);
        let handshakes = runtime().block_on(talk(&agents, &kubelet));
        println!("{handshakes} handshakes while the root and the intermediate were replaced");
    });
    let bundles = kubelet.bundles.into_inner().unwrap();
    let sizes: Vec<_> = bundles.iter().map(|bundle| bundle.matches("BEGIN").count()).collect();
    assert_eq!(sizes, [1, 2, 2, 1], "old; old and new; new and old; new");
    assert!(!bundles[3].contains(first.trim()), "the first root is gone");
    assert!(replicas.iter().any(|replica| replica.log().contains("step=RenewIntermediate")));
}

/// The cluster's side of a rotation, on a thread of its own: files follow the ConfigMap, and wishes are written down.
#[derive(Default)]
struct Kubelet {
    bundles: Mutex<Vec<String>>,
    wish: Mutex<Option<&'static str>>,
    stop: AtomicBool,
}

/// Lets the kubelet end when the test does, however that ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Kubelet {
    fn run(&self, lab: &Lab) {
        while !self.stop.load(Ordering::SeqCst) {
            lab.publish();
            let roots = lab.roots();
            let mut bundles = self.bundles.lock().unwrap();
            if bundles.last() != Some(&roots) {
                bundles.push(roots);
            }
            drop(bundles);
            if let Some(wish) = self.wish.lock().unwrap().take() {
                let patch = json!({ "metadata": { "annotations": { "sotto.dev/rotate": wish } } });
                lab.server.patch(&format!("{SYSTEM}/secrets/sotto-ca"), &patch);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn wishes(&self, wish: &'static str) {
        *self.wish.lock().unwrap() = Some(wish);
    }

    /// Whether a rotation of the root is over.
    fn is_over(&self) -> bool {
        let bundles = self.bundles.lock().unwrap();
        bundles.len() > 1 && bundles.last().is_some_and(|last| last.matches("BEGIN").count() == 1)
    }
}

/// Two agents renew, and two pods greet each other all the time, while the root and then the intermediate are replaced. Returns
/// the number of handshakes; a single one that fails ends the test.
async fn talk(agents: &[remote::Config; 2], kubelet: &Kubelet) -> u32 {
    let store = |agent: &remote::Config| {
        let config = StoreConfig { lifetime: Duration::from_secs(6), ..StoreConfig::default() };
        CertificateStore::new(Arc::new(RemoteAuthority::new(agent.clone())), config)
    };
    let ((near, near_renews), (far, far_renews)) = (store(&agents[0]), store(&agents[1]));
    let talking = async {
        let (client, server) = (near.hold(&identity("client")), far.hold(&identity("far")));
        client.wait_ready(SOON).await.unwrap();
        server.wait_ready(SOON).await.unwrap();
        let (mut handshakes, end) = (0, Instant::now() + SOON * 4);
        let mut until = async |what: &str, done: &dyn Fn() -> bool| {
            while !done() {
                assert!(Instant::now() < end, "not within {:?}: {what}", SOON * 4);
                greet(&client, &server).await;
                greet(&server, &client).await;
                handshakes += 2;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        kubelet.wishes("root");
        until("the root is replaced", &|| kubelet.is_over()).await;
        kubelet.wishes("intermediate");
        let before = client.status().rotations;
        until("some renewals later", &|| client.status().rotations >= before + 3).await;
        handshakes
    };
    tokio::select! {
        handshakes = talking => handshakes,
        () = near_renews => unreachable!("handles are held"),
        () = far_renews => unreachable!("handles are held"),
    }
}

#[test]
fn a_plugged_in_authority_is_used_as_it_is() {
    let Some(lab) = Lab::new("a_plugged_in_authority_is_used_as_it_is") else { return };
    // A controller's own Secret has Istio's names in it: plugged in elsewhere, it gives the same authority.
    let donor = Controller::start(&lab.server, &[]);
    donor.wait_ready();
    let roots = lab.roots();
    let own = lab.server.get(&format!("{SYSTEM}/secrets/sotto-ca"));
    assert!(donor.terminate().success());
    lab.server.delete(&format!("{SYSTEM}/secrets/sotto-ca"));
    let meta = json!({ "name": "cacerts", "namespace": "sotto-system" });
    lab.server.create(&json!({ "apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": own["data"] }));
    let controller = Controller::start(&lab.server, &[]);
    controller.wait_ready();
    ask(&lab.agent(&controller, &lab.token("sotto-node", "agent-a", "istio-ca")), "client").unwrap();
    assert_eq!(lab.roots(), roots);
    let secrets = lab.server.get(&format!("{SYSTEM}/secrets"));
    let names: Vec<_> =
        secrets["items"].as_array().unwrap().iter().map(|s| s["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cacerts"], "none is made beside it");
}
