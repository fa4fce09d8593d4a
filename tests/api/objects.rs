//! Objects for the API server.

use serde_json::{Value, json};

pub(crate) fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

pub(crate) fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "z1"}}})
}

pub(crate) fn pod(namespace: &str, name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}, "annotations": {"big": "x".repeat(2000)}},
        "spec": {"nodeName": "node-a", "containers": [{"name": "app", "image": "example/app"}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    })
}

pub(crate) fn service(namespace: &str, name: &str, vip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name},
        "spec": {"clusterIP": vip, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

/// A slice in the older version of its kind, which is the one that old servers have.
pub(crate) fn slice(namespace: &str, service: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1beta1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": namespace, "name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}, "topology": {"kubernetes.io/hostname": "node-a"}}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

/// A definition that takes any spec, as a server without the schema would.
pub(crate) fn peer_authentications() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "peerauthentications.security.istio.io"},
        "spec": {
            "group": "security.istio.io", "scope": "Namespaced",
            "names": {"kind": "PeerAuthentication", "plural": "peerauthentications", "singular": "peerauthentication"},
            "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": schema}],
        },
    })
}

pub(crate) fn peer_authentication(namespace: &str, name: &str, mode: &str) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1beta1", "kind": "PeerAuthentication",
        "metadata": {"namespace": namespace, "name": name}, "spec": {"mtls": {"mode": mode}},
    })
}
