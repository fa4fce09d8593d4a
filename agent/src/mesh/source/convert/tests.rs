//! What every source relies on; the rules one by one are in the golden tests.

use serde_json::json;

use crate::mesh::source::objects::kind::Kind;
use crate::mesh::source::objects::kind::Object;
use crate::model::workload::ObjectName;

use super::mesh::{Mesh, Objects, Rules, mesh};

fn objects(values: &[serde_json::Value]) -> Vec<Object> {
    use serde::de::DeserializeSeed;
    let object = |value: &serde_json::Value| {
        let kind = Kind::resolve(value["apiVersion"].as_str().unwrap(), value["kind"].as_str().unwrap());
        kind.unwrap().unwrap().deserialize(value).unwrap()
    };
    values.iter().map(object).collect()
}

fn convert(objects: &[Object], rules: &Rules) -> Mesh {
    let mut sorted = Objects::default();
    objects.iter().for_each(|object| sorted.add(object));
    mesh(&sorted, rules)
}

fn problems(mesh: &Mesh) -> Vec<String> {
    mesh.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_bad_object_does_not_take_the_others_down() {
    let objects = objects(&[
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "good"}, "status": {"podIP": "10.0.0.1"}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"}, "status": {"podIP": "10.0.0.x"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad"}, "spec": {"ports": [{"port": 0}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "bad", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"port": 80}], "endpoints": [{"addresses": ["127.0.0.1"]}]}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "good", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]}),
    ]);
    let mesh = convert(&objects, &Rules::default());
    let expected = [
        "Pod default/bad: status.podIP: \"10.0.0.x\" is not an IP address",
        "EndpointSlice default/bad: endpoints[0].addresses[0]: \"127.0.0.1\" cannot be reached by others (unspecified, \
         loopback, link-local or multicast)",
        "Service default/bad: spec.ports[0].port: must be a port number from 1 to 65535, not 0",
    ];
    assert_eq!(problems(&mesh), expected);
    assert!(mesh.view.workload(&ObjectName::new("default", "good")).is_some());
    let web = mesh.view.services().next().unwrap();
    assert_eq!(web.port(80).unwrap().endpoints.len(), 1);
}

#[test]
fn pods_of_a_cluster_cannot_choose_their_network_namespace() {
    let objects = objects(&[json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "annotations": {"sotto.dev/netns": "/proc/1/ns/net"}}})]);
    let netns = |netns_annotation| {
        let mesh = convert(&objects, &Rules { netns_annotation, ..Rules::default() });
        mesh.view.workloads().next().unwrap().netns.clone()
    };
    assert_eq!(netns(false), None);
    assert_eq!(netns(true), Some("/proc/1/ns/net".into()));
}

#[test]
fn the_order_of_objects_does_not_matter() {
    let mut objects = objects(&[
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo", "labels": {"istio.io/dataplane-mode": "ambient"}}}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b", "namespace": "demo"}, "spec": {"nodeName": "n"},
            "status": {"podIP": "10.0.0.1"}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "demo"}, "status": {"podIP": "10.0.0.1"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "w", "namespace": "demo"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}),
    ]);
    let first = convert(&objects, &Rules::default());
    assert_eq!(problems(&first).len(), 1);
    for _ in 0..objects.len() {
        objects.rotate_left(1);
        let other = convert(&objects, &Rules::default());
        assert_eq!(other.view, first.view);
        assert_eq!(other.problems, first.problems);
    }
}

#[test]
fn endpoints_of_both_versions_say_where_they_run() {
    let objects = objects(&[json!({"apiVersion": "discovery.k8s.io/v1beta1", "kind": "EndpointSlice",
        "metadata": {"name": "s"}, "endpoints": [
            {"addresses": ["10.0.0.1"], "nodeName": "n1"},
            {"addresses": ["10.0.0.2"], "topology": {"kubernetes.io/hostname": "n2"}},
            {"addresses": ["10.0.0.3"]}]})]);
    let Object::EndpointSlice(slice) = &objects[0] else {
        panic!("not a slice");
    };
    let nodes: Vec<&str> = slice.endpoints.iter().map(|endpoint| endpoint.node()).collect();
    assert_eq!(nodes, ["n1", "n2", ""]);
}
