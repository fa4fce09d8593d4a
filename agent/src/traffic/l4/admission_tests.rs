//! Connections are let in, reviewed and closed by the policies of the moment.

use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt as _;
use serde::de::DeserializeSeed as _;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::admission::{Admission, Admissions};
use crate::mesh::source::convert::mesh::{Objects, Rules, mesh};
use crate::mesh::source::objects::kind::{Kind, Object};
use crate::mesh::source::state::MeshState;
use crate::model::identity::{Identity, TrustDomain};
use crate::model::policy::evaluate::{Reason, Verdict};
use crate::model::policy::rule::Request;
use crate::model::workload::ObjectName;

/// The mesh with two pods, `demo/one` and `demo/two`, and a policy for `one` if there is a spec.
fn state(spec: Option<Value>) -> Arc<MeshState> {
    state_with(spec, None)
}

/// The same with one more pod.
fn state_with(spec: Option<Value>, pod: Option<Value>) -> Arc<MeshState> {
    let more = pod;
    let pod = |name: &str, ip: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "demo", "labels": {"app": name}},
            "status": {"podIP": ip}})
    };
    let mut manifests = vec![pod("one", "10.0.0.1"), pod("two", "10.0.0.2")];
    manifests.extend(more);
    manifests.extend(spec.map(|mut spec| {
        spec["selector"] = json!({"matchLabels": {"app": "one"}});
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "p", "namespace": "demo"}, "spec": spec})
    }));
    let object = |manifest: &Value| {
        let text = |key: &str| manifest[key].as_str().unwrap();
        Kind::resolve(text("apiVersion"), text("kind")).unwrap().unwrap().deserialize(manifest).unwrap()
    };
    let objects: Vec<Object> = manifests.iter().map(object).collect();
    let mut sorted = Objects::default();
    objects.iter().for_each(|object| sorted.add(object));
    Arc::new(MeshState { view: Arc::new(mesh(&sorted, &Rules::default()).view), ..MeshState::default() })
}

fn deny(namespace: &str) -> Option<Value> {
    Some(json!({"action": "DENY", "rules": [{"from": [{"source": {"namespaces": [namespace]}}]}]}))
}

fn request(from: &str) -> Request {
    let identity = Identity::new(TrustDomain::default(), from, "web").unwrap();
    Request::new(Some(identity), [10, 0, 0, 9].into(), ([10, 0, 0, 1], 80).into())
}

fn admit(table: &Rc<Admissions>, pod: &str, from: &str) -> Result<Admission, Verdict> {
    table.admit(&ObjectName::new("demo", pod), request(from))
}

fn revoked(admission: &mut Admission) -> Option<Reason> {
    admission.revoked().now_or_never().map(|verdict| verdict.reason)
}

#[tokio::test]
async fn a_change_of_policy_closes_exactly_what_it_forbids() {
    let (sender, mesh) = watch::channel(state(None));
    let table = Admissions::new(mesh);
    let mut follow = Box::pin(table.follow());
    let mut shop = admit(&table, "one", "shop").unwrap();
    let mut bank = admit(&table, "one", "bank").unwrap();
    let mut other = admit(&table, "two", "shop").unwrap();
    assert!(follow.as_mut().now_or_never().is_none());

    sender.send_replace(state(deny("shop")));
    // Let in before the change is looked at, by the policies that it brings.
    assert_eq!(admit(&table, "one", "shop").unwrap_err().reason, Reason::DenyRule);
    let mut late = admit(&table, "one", "bank").unwrap();
    assert!(follow.as_mut().now_or_never().is_none());
    assert_eq!(revoked(&mut shop), Some(Reason::DenyRule));
    assert_eq!([&mut bank, &mut other, &mut late].map(revoked), [None, None, None]);

    sender.send_replace(state(deny("bank")));
    assert!(follow.as_mut().now_or_never().is_none());
    assert_eq!([&mut bank, &mut late].map(revoked), [Some(Reason::DenyRule); 2]);
    assert_eq!(revoked(&mut other), None);
}

#[tokio::test]
async fn a_pod_that_is_gone_lets_nobody_in_and_keeps_who_is_there() {
    let (sender, mesh) = watch::channel(state(None));
    let table = Admissions::new(mesh);
    let mut follow = Box::pin(table.follow());
    let mut kept = admit(&table, "one", "shop").unwrap();
    sender.send_replace(Arc::default());
    assert!(follow.as_mut().now_or_never().is_none());
    assert_eq!(revoked(&mut kept), None);
    assert_eq!(admit(&table, "one", "shop").unwrap_err(), Verdict::UNKNOWN_WORKLOAD);
}

#[tokio::test]
async fn a_connection_that_has_ended_is_not_kept() {
    let (_sender, mesh) = watch::channel(state(None));
    let table = Admissions::new(mesh);
    let admissions: Vec<_> = (0..3).map(|_| admit(&table, "one", "shop").unwrap()).collect();
    assert!(!table.is_empty());
    drop(admissions);
    assert!(table.is_empty());
}

fn source_pod(account: &str, enrolled: bool) -> Value {
    let mode = if enrolled { "ambient" } else { "none" };
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "source", "namespace": "demo", "labels": {"istio.io/dataplane-mode": mode}},
        "spec": {"serviceAccountName": account},
        "status": {"podIP": "10.0.0.9", "phase": "Running"}})
}

#[tokio::test]
async fn a_client_that_changes_keeps_only_what_it_could_have_anew() {
    let only = |account: &str| {
        let principal = format!("cluster.local/ns/demo/sa/{account}");
        Some(json!({"rules": [{"from": [{"source": {"principals": [principal]}}]}]}))
    };
    let identity = Identity::new(TrustDomain::default(), "demo", "web").unwrap();
    let asked = || Request::new(Some(identity.clone()), [10, 0, 0, 9].into(), ([10, 0, 0, 1], 80).into());
    let later = [
        // It belongs to the mesh as it did: nothing changes.
        (only("web"), Some(source_pod("web", true)), None),
        (only("web"), Some(source_pod("web", false)), Some(Reason::NoAllowRule)),
        (only("web"), Some(source_pod("other", true)), Some(Reason::NoAllowRule)),
        (only("web"), None, Some(Reason::NoAllowRule)),
        // Anybody may connect, whoever that is.
        (None, Some(source_pod("other", true)), None),
        (None, Some(source_pod("web", false)), None),
        (None, None, None),
    ];
    for (number, (spec, after, expected)) in later.into_iter().enumerate() {
        let (sender, mesh) = watch::channel(state_with(spec.clone(), Some(source_pod("web", true))));
        let table = Admissions::new(mesh);
        let mut follow = Box::pin(table.follow());
        let one = ObjectName::new("demo", "one");
        let mut known = table.admit(&one, asked()).unwrap();
        // Nobody knows a pod of that address and identity: what proves itself by its certificate alone has nothing to change.
        let from_afar = Request::new(Some(identity.clone()), [192, 0, 2, 1].into(), ([10, 0, 0, 1], 80).into());
        let mut unknown = table.admit(&one, from_afar).unwrap();
        assert!(follow.as_mut().now_or_never().is_none());
        sender.send_replace(state_with(spec, after));
        assert!(follow.as_mut().now_or_never().is_none());
        assert_eq!((revoked(&mut known), revoked(&mut unknown)), (expected, None), "{number}");
        drop((known, unknown));
        assert!(table.is_empty(), "{number}");
    }
}
