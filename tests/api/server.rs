//! The API server itself, as the tests rely on it.

use harness::kube::ApiServer;
use serde_json::json;

#[test]
fn objects_survive_a_crash_of_the_api_server() {
    let Some(mut api) = ApiServer::start("objects_survive_a_crash_of_the_api_server") else { return };
    api.kubectl().apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept", "namespace": "default"}, "data": {"a": "b"},
    }));
    api.crash();
    assert!(api.kubectl().attempt(&["get", "--raw", "/readyz", "--request-timeout=2s"]).is_err());
    api.resume();
    assert_eq!(api.kubectl().get(&["-n", "default", "configmap", "kept"])["data"]["a"], "b");
}

#[test]
fn controllers_make_service_accounts_and_end_namespaces() {
    let test = "controllers_make_service_accounts_and_end_namespaces";
    let Some(api) = ApiServer::start_with_controllers(test) else { return };
    let namespace = api.kubectl().namespace("demo", &json!({"a": "b"}));
    namespace.label("a", None);
    assert_eq!(api.kubectl().get(&["namespace", namespace.name()])["metadata"]["labels"]["a"], json!(null));
    let name = namespace.name().to_owned();
    api.kubectl().run(&["delete", "namespace", &name, "--timeout=60s"]);
    assert!(api.kubectl().get(&["namespace", &name]).is_null());
}
