//! A mesh of some size, from manifests as the agent reads them.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::json;
use sotto::mesh::source::convert::derive::endpoint_slices;
use sotto::mesh::source::convert::mesh::{Objects, Rules, mesh};
use sotto::mesh::source::directory::decode::decode;
use sotto::model::view::MeshView;

/// Services, and pods behind each.
pub(crate) const SERVICES: u8 = 20;
const PODS: u8 = 5;

/// Policies for the whole namespace.
const POLICIES: u8 = 10;

/// The view of a mesh of 20 services with 5 pods each and 10 policies.
pub(crate) fn view() -> MeshView {
    let mut text = String::new();
    let mut add = |object: serde_json::Value| {
        let _ = write!(text, "---\n{object}\n");
    };
    add(
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop", "labels": { "istio.io/dataplane-mode": "ambient" } } }),
    );
    for service in 0..SERVICES {
        let app = format!("app-{service}");
        add(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": app, "namespace": "shop" },
            "spec": { "clusterIP": format!("10.2.0.{}", service + 1), "selector": { "app": app }, "ports": [{ "port": 80, "targetPort": 8080 }] },
        }));
        for pod in 0..PODS {
            add(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": format!("{app}-{pod}"), "namespace": "shop", "uid": format!("{app}-{pod}"), "labels": { "app": app } },
                "spec": { "nodeName": format!("node-{pod}"), "serviceAccountName": app, "containers": [{ "name": "a", "image": "a" }] },
                "status": {
                    "phase": "Running", "podIP": format!("10.1.{service}.{}", pod + 1),
                    "podIPs": [{ "ip": format!("10.1.{service}.{}", pod + 1) }],
                    "conditions": [{ "type": "Ready", "status": "True" }],
                },
            }));
        }
    }
    for policy in 0..POLICIES {
        add(json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": format!("policy-{policy}"), "namespace": "shop" },
            "spec": { "action": "ALLOW", "rules": [{
                "from": [{ "source": { "principals": [format!("cluster.local/ns/shop/sa/app-{}", policy + 1)] } }],
                "to": [{ "operation": { "ports": ["8080"] } }],
            }] },
        }));
    }
    let rules = Rules::default();
    let decoded = decode(&Arc::from("mesh.yaml"), &text, &rules);
    assert!(decoded.problems.is_empty(), "{}", decoded.problems[0]);
    let mut objects = Objects::default();
    decoded.objects.iter().for_each(|located| objects.add(&located.object));
    let derived = endpoint_slices(&objects);
    objects.endpoint_slices.extend(&derived);
    mesh(&objects, &rules).view
}
