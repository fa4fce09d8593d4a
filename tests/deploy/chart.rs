//! The chart with its default values, and with others.

use std::fs;

use serde_json::{Value, json};

use crate::render::{Objects, Renderer, deploy, kustomized};

const NODE: &str = "DaemonSet sotto-node";
const CONTROLLER: &str = "Deployment sotto-controller";
const POD: &str = "/spec/template/spec";

#[test]
fn the_defaults_make_what_kustomize_makes() {
    let Some(renderer) = Renderer::of_tier("the_defaults_make_what_kustomize_makes") else { return };
    let chart = renderer.chart("sotto-system", "namespace: {create: true}");
    let mut without_namespace = chart.clone();
    assert!(without_namespace.remove("Namespace sotto-system").is_some(), "{:?}", chart.keys());
    assert_eq!(renderer.chart("sotto-system", ""), without_namespace);

    let Some(expected) = kustomized("kustomize").map(|yaml| renderer.parsed(&yaml)) else { return };
    assert!(chart.keys().eq(expected.keys()), "chart {:?}\nkustomize {:?}", chart.keys(), expected.keys());
    for (name, object) in &chart {
        assert_eq!(object, &expected[name], "{name}: left from the chart, right from kustomize");
    }
}

#[test]
fn an_authority_that_is_there_takes_the_controllers_place() {
    let Some(renderer) = Renderer::of_tier("an_authority_that_is_there_takes_the_controllers_place") else { return };
    let values = "ca: {address: 'istiod.istio-system.svc:15012', serverName: istiod.istio-system.svc, audience: other}";
    let objects = renderer.chart("mesh", values);
    assert!(!objects.keys().any(|name| name.contains("controller")), "{:?}", objects.keys());
    assert!(has(&objects, NODE, "--ca-address=istiod.istio-system.svc:15012"));
    assert!(has(&objects, NODE, "--ca-server-name=istiod.istio-system.svc"));
    assert_eq!(volume(&objects, "ca")["configMap"]["name"], "istio-ca-root-cert");
    assert_eq!(volume(&objects, "token")["projected"]["sources"][0]["serviceAccountToken"]["audience"], "other");
}

#[test]
fn without_the_plugin_nothing_of_cni_is_mounted() {
    let Some(renderer) = Renderer::of_tier("without_the_plugin_nothing_of_cni_is_mounted") else { return };
    let objects = renderer.chart("mesh", "node: {cni: {enabled: false}}");
    assert!(!objects[NODE].to_string().contains("cni"), "{}", objects[NODE]);
    let moved = renderer.chart("mesh", "node: {cni: {confDir: /etc/other, binDir: /opt/other}}");
    assert_eq!(volume(&moved, "cni-conf")["hostPath"]["path"], "/etc/other");
    assert_eq!(volume(&moved, "cni-bin")["hostPath"]["path"], "/opt/other");
}

#[test]
fn what_concerns_both_reaches_both() {
    let Some(renderer) = Renderer::of_tier("what_concerns_both_reaches_both") else { return };
    let values = "{trustDomain: example.org, image: {repository: r.example/sotto, tag: '1', pullSecrets: [{name: key}]}, \
                  ca: {audience: other}}";
    let objects = renderer.chart("mesh", values);
    for name in [NODE, CONTROLLER] {
        assert!(has(&objects, name, "--trust-domain=example.org"), "{name}");
        assert_eq!(container(&objects, name)["image"], "r.example/sotto:1");
        assert_eq!(pod(&objects, name)["imagePullSecrets"], json!([{"name": "key"}]));
    }
    assert!(has(&objects, CONTROLLER, "--token-audience=other"));
    assert!(has(&objects, NODE, "--ca-address=sotto-controller.mesh.svc:15012"));
}

#[test]
fn each_value_becomes_its_flag() {
    let Some(renderer) = Renderer::of_tier("each_value_becomes_its_flag") else { return };
    let values = "{rootNamespace: root, clusterName: c1, \
        node: {kubeletCgroup: none, logLevel: 'sotto=debug', logFormat: json, extraArgs: [--threads=2]}, \
        controller: {logLevel: warn, logFormat: json, extraArgs: ['--drain=1s'], \
            rotation: {maxCertLifetime: 1h, wait: 2h, rootLifetime: 900days, intermediateLifetime: 90days}}}";
    let objects = renderer.chart("mesh", values);
    for flag in [
        "--root-namespace=root",
        "--cluster=c1",
        "--ca-cluster-id=c1",
        "--kubelet-cgroup=none",
        "--log=sotto=debug",
        "--log-format=json",
        "--threads=2",
    ] {
        assert!(has(&objects, NODE, flag), "{flag} is not in {}", container(&objects, NODE)["args"]);
    }
    for flag in [
        "--log=warn",
        "--log-format=json",
        "--drain=1s",
        "--max-cert-lifetime=1h",
        "--rotation-wait=2h",
        "--root-lifetime=900days",
        "--intermediate-lifetime=90days",
    ] {
        assert!(has(&objects, CONTROLLER, flag), "{flag} is not in {}", container(&objects, CONTROLLER)["args"]);
    }
}

#[test]
fn objects_of_a_namespace_are_in_that_of_the_release() {
    let Some(renderer) = Renderer::of_tier("objects_of_a_namespace_are_in_that_of_the_release") else { return };
    let objects = renderer.chart("mesh", "namespace: {create: true}");
    for (name, object) in &objects {
        assert!(!object.to_string().contains("sotto-system"), "{name}: {object}");
        let cluster_wide = ["Namespace ", "ClusterRole"].iter().any(|kind| name.starts_with(kind));
        let expected = if cluster_wide { Value::Null } else { json!("mesh") };
        assert_eq!(object["metadata"]["namespace"], expected, "{name}");
    }
}

#[test]
fn a_single_replica_has_no_disruption_budget() {
    let Some(renderer) = Renderer::of_tier("a_single_replica_has_no_disruption_budget") else { return };
    let budget = "PodDisruptionBudget sotto-controller";
    assert!(renderer.chart("mesh", "").contains_key(budget));
    let objects = renderer.chart("mesh", "controller: {replicas: 1}");
    assert_eq!((objects.contains_key(budget), &objects[CONTROLLER]["spec"]["replicas"]), (false, &json!(1)));
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let Some(renderer) = Renderer::of_tier("values_that_make_no_sense_are_refused") else { return };
    for (values, field) in [
        ("ca: {addres: 'x:1'}", "addres"),
        ("ca: {address: x}", "ca.address"),
        ("controller: {replicas: 0}", "controller.replicas"),
        ("node: {logFormat: xml}", "node.logFormat"),
        ("node: {cni: {enabled: 'yes'}}", "node.cni.enabled"),
    ] {
        assert!(renderer.refusal(values).contains(field), "{values}: {}", renderer.refusal(values));
    }
}

#[test]
fn the_chart_has_the_version_of_the_tree() {
    let text = fs::read_to_string(deploy("helm/sotto/Chart.yaml")).unwrap();
    for key in ["version", "appVersion"] {
        let line = format!("{key}: {}", env!("CARGO_PKG_VERSION"));
        assert!(text.lines().any(|found| found == line), "{line} is not in Chart.yaml");
    }
}

#[test]
fn chart_and_kustomize_define_the_same_kinds() {
    let names = |folder: &str| {
        let entries = fs::read_dir(deploy(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| name != "kustomization.yaml");
        names.sort();
        names
    };
    assert_eq!(names("helm/sotto/crds"), names("crds"));
    for name in names("crds") {
        let text = |folder: &str| fs::read_to_string(deploy(folder).join(&name)).unwrap();
        assert_eq!(text("helm/sotto/crds"), text("crds"), "{}: copy the one over the other", name.display());
    }
}

#[test]
fn definitions_keep_what_they_do_not_know() {
    let Some(renderer) = Renderer::of_tier("definitions_keep_what_they_do_not_know") else { return };
    let Some(definitions) = kustomized("crds").map(|yaml| renderer.parsed(&yaml)) else { return };
    assert_eq!(definitions.len(), 2);
    for (name, definition) in &definitions {
        let versions = definition["spec"]["versions"].as_array().unwrap();
        let served: Vec<_> = versions.iter().map(|version| version["name"].as_str().unwrap()).collect();
        assert_eq!(served, ["v1", "v1beta1"], "{name}");
        for version in versions {
            keeps_unknown(&version["schema"]["openAPIV3Schema"]["properties"]["spec"], name);
        }
    }
}

/// Every mapping with fields of its own: the API server would drop a misspelt one before the agent can fail closed.
fn keeps_unknown(schema: &Value, path: &str) {
    if let Some(fields) = schema["properties"].as_object() {
        assert_eq!(schema["x-kubernetes-preserve-unknown-fields"], true, "{path}");
        fields.iter().for_each(|(key, field)| keeps_unknown(field, &format!("{path}.{key}")));
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(schema) = schema.get(inner) {
            keeps_unknown(schema, &format!("{path}.{inner}"));
        }
    }
}

fn pod<'a>(objects: &'a Objects, name: &str) -> &'a Value {
    objects[name].pointer(POD).unwrap()
}

fn container<'a>(objects: &'a Objects, name: &str) -> &'a Value {
    &pod(objects, name)["containers"][0]
}

fn has(objects: &Objects, name: &str, flag: &str) -> bool {
    container(objects, name)["args"].as_array().unwrap().iter().any(|argument| argument == flag)
}

fn volume<'a>(objects: &'a Objects, name: &str) -> &'a Value {
    let volumes = pod(objects, NODE)["volumes"].as_array().unwrap();
    volumes.iter().find(|volume| volume["name"] == name).unwrap()
}
