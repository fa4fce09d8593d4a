//! Objects as an API server gives them, kept, replaced and refused.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::decode::{Decoded, decode};
use super::store::Store;
use crate::drivers::cluster::error::ApiError;
use crate::drivers::cluster::follow::{Key, Update};
use crate::mesh::source::convert::mesh::Rules;
use crate::mesh::source::objects::kind::{Kind, Object};
use crate::model::arrival::{Arrival, Arrivals};

fn read(kind: Kind, object: &Value) -> Decoded {
    decode(kind, &object.to_string(), &Rules::default())
}

fn pod(name: &str, ip: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "demo", "uid": format!("uid-{name}"), "resourceVersion": "7",
            "labels": {"app": name},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x".repeat(10_000)},
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:metadata": {}}}],
            "ownerReferences": [{"kind": "ReplicaSet", "name": "r", "controller": true}, {"kind": "X", "name": "y"}],
        },
        "spec": {"nodeName": "a", "containers": [{"name": "app", "image": "i", "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn key(name: &str) -> Key {
    Key { namespace: "demo".into(), name: name.into() }
}

fn present(store: &mut Store, name: &str, object: &Value) -> bool {
    store.update(Kind::Pod, Update::Present(key(name), read(Kind::Pod, object)))
}

fn pods(store: &Store) -> Vec<String> {
    let mesh = store.mesh(&Rules::default(), &BTreeMap::new());
    let mut pods: Vec<_> = mesh.view.workloads().map(|w| format!("{} {:?}", w.pod.name, w.ips)).collect();
    pods.sort();
    pods
}

fn problems(store: &Store) -> Vec<String> {
    store.mesh(&Rules::default(), &BTreeMap::new()).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn only_what_is_used_of_a_pod_is_kept() {
    let Some(Object::Pod(kept)) = read(Kind::Pod, &pod("web", "10.0.0.1")).object else { panic!("no pod") };
    assert!(
        kept.metadata.annotations.is_empty() && kept.spec.containers.is_empty() && kept.status.conditions.is_empty()
    );
    assert_eq!((kept.metadata.uid.as_str(), kept.metadata.owner_references.len()), ("uid-web", 1));
    assert_eq!(kept.metadata.label("app"), Some("web"));
}

#[test]
fn labels_that_pods_have_in_common_are_there_once() {
    let mut store = Store::default();
    let mut other = pod("other", "10.0.0.2");
    other["metadata"]["labels"] = pod("web", "10.0.0.1")["metadata"]["labels"].clone();
    present(&mut store, "web", &pod("web", "10.0.0.1"));
    present(&mut store, "other", &other);
    store.forget_gone();
    let view = store.mesh(&Rules::default(), &BTreeMap::new()).view;
    let pods: Vec<_> = view.workloads().collect();
    assert!(!pods[0].labels.is_empty() && pods[0].labels.is_same(&pods[1].labels));
    assert_eq!(pods[0].labels.copies(), 5, "two objects, two workloads and the table that they are found in");
}

#[test]
fn what_nobody_reads_of_an_object_is_no_change() {
    let mut store = Store::default();
    assert!(present(&mut store, "web", &pod("web", "10.0.0.1")));
    let mut later = pod("web", "10.0.0.1");
    later["metadata"]["resourceVersion"] = json!("8");
    later["status"]["conditions"][0]["lastProbeTime"] = json!("2026-01-01T00:00:00Z");
    later["metadata"]["annotations"]["any"] = json!("thing");
    assert!(!present(&mut store, "web", &later));
    assert!(present(&mut store, "web", &pod("web", "10.0.0.2")));
}

#[test]
fn the_last_good_version_of_an_object_serves_and_the_problem_names_the_field() {
    let mut store = Store::default();
    present(&mut store, "web", &pod("web", "10.0.0.1"));
    let mut bad = pod("web", "10.0.0.1");
    bad["status"]["podIP"] = json!(7);
    assert!(present(&mut store, "web", &bad));
    assert_eq!(pods(&store), ["web [10.0.0.1]"]);
    let said = problems(&store).join("\n");
    assert!(said.starts_with("Pod demo/web: status.podIP: invalid type") && said.contains("keeps serving"), "{said}");
    assert!(present(&mut store, "web", &pod("web", "10.0.0.3")));
    assert_eq!((pods(&store), problems(&store)), (vec!["web [10.0.0.3]".to_owned()], vec![]));
}

#[test]
fn another_pod_of_the_same_name_does_not_live_on_the_good_version_of_the_first() {
    let mut store = Store::default();
    present(&mut store, "web", &pod("web", "10.0.0.1"));
    let mut other = pod("web", "nonsense");
    other["metadata"]["uid"] = json!("another");
    assert!(present(&mut store, "web", &other));
    assert_eq!(pods(&store), [""; 0]);
    assert!(problems(&store)[0].contains("status.podIP"), "{:?}", problems(&store));
}

#[test]
fn a_complete_list_takes_back_what_is_not_in_it_and_an_incomplete_one_nothing() {
    let mut store = Store::default();
    let update = |store: &mut Store, update| store.update(Kind::Pod, update);
    update(&mut store, Update::Restart);
    present(&mut store, "one", &pod("one", "10.0.0.1"));
    present(&mut store, "two", &pod("two", "10.0.0.2"));
    assert!(!store.is_complete(Kind::Pod));
    assert!(update(&mut store, Update::Complete));
    assert!(store.is_complete(Kind::Pod));
    update(&mut store, Update::Restart);
    present(&mut store, "two", &pod("two", "10.0.0.2"));
    assert_eq!(pods(&store).len(), 2, "the list may yet name the other");
    assert!(update(&mut store, Update::Complete));
    assert_eq!(pods(&store), ["two [10.0.0.2]"]);
    assert!(update(&mut store, Update::Absent(key("two"))));
    assert!(!update(&mut store, Update::Absent(key("two"))));
    assert_eq!(pods(&store), [""; 0]);
}

#[test]
fn trouble_is_said_once_for_all_kinds_and_changes_no_object() {
    let mut store = Store::default();
    present(&mut store, "web", &pod("web", "10.0.0.1"));
    let away = || Update::Trouble(Some(ApiError::Unreachable("refused".into())));
    assert!(store.update(Kind::Pod, away()) && store.update(Kind::Node, away()));
    assert!(!store.update(Kind::Pod, away()), "no news");
    assert_eq!(pods(&store), ["web [10.0.0.1]"]);
    let said = problems(&store);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("refused") && said[0].contains("Node, Pod"), "{said:?}");
    assert!(store.mesh(&Rules::default(), &BTreeMap::new()).problems[0].may_hide_pods());
    assert!(store.update(Kind::Pod, Update::Trouble(None)) && store.update(Kind::Node, Update::Trouble(None)));
    assert!(problems(&store).is_empty());
}

#[test]
fn a_policy_that_was_never_good_fails_closed_and_one_that_was_serves_on() {
    let policy =
        |mode: Value| json!({"metadata": {"name": "p", "namespace": "demo"}, "spec": {"mtls": {"mode": mode}}});
    let mut store = Store::default();
    let mut take = |object: &Value| {
        store.update(Kind::PeerAuthentication, Update::Present(key("p"), read(Kind::PeerAuthentication, object)));
        problems(&store).join("\n")
    };
    assert!(take(&policy(json!("STRIKT"))).contains("keeps out"), "closed until mended");
    assert_eq!(take(&policy(json!("PERMISSIVE"))), "");
    assert!(take(&policy(json!("STRIKT"))).contains("keeps serving"));
}

#[test]
fn the_marked_pods_of_this_node_are_known() {
    let mut store = Store::default();
    let mut marked = pod("web", "10.0.0.1");
    marked["metadata"]["annotations"]["ambient.istio.io/redirection"] = json!("enabled");
    present(&mut store, "web", &marked);
    present(&mut store, "other", &pod("other", "10.0.0.2"));
    assert_eq!(store.marked("a").into_iter().collect::<Vec<_>>(), ["uid-web".into()]);
    assert!(store.marked("b").is_empty());
}

#[test]
fn hostile_json_is_refused_with_a_short_word() {
    for text in ["", "7", "null", "{\"metadata\":7}", &"[".repeat(100_000)] {
        let Decoded { object, faults } = decode(Kind::Pod, text, &Rules::default());
        assert!(object.is_none() && faults.len() == 1 && faults[0].message.len() < 500, "{faults:?}");
    }
}

#[test]
fn a_pod_that_arrives_has_its_address_before_its_status_does() {
    let mut store = Store::default();
    let mut early = pod("early", "");
    early["status"] = json!({"phase": "Pending"});
    present(&mut store, "early", &early);
    present(&mut store, "known", &pod("known", "10.0.0.2"));
    let arrival =
        |ip: &str| Arrival { container: "c".to_owned(), netns: "/run/netns/x".into(), ips: vec![ip.parse().unwrap()] };
    let arrivals: Arrivals =
        [("uid-early", "10.0.0.1"), ("uid-known", "10.0.0.9")].map(|(uid, ip)| (uid.into(), arrival(ip))).into();
    let addresses = |arrivals: &Arrivals| {
        let mesh = store.mesh(&Rules::default(), arrivals);
        let mut ips: Vec<_> = mesh.view.workloads().flat_map(|w| w.ips.clone()).map(|ip| ip.to_string()).collect();
        ips.sort();
        ips
    };
    assert_eq!(addresses(&Arrivals::new()), ["10.0.0.2"]);
    assert_eq!(addresses(&arrivals), ["10.0.0.1", "10.0.0.2"], "what the status says counts where it says something");
}
