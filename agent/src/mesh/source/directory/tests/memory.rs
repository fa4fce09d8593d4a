//! What a pod costs: a mesh has thousands, and each agent knows all of them.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use super::fixture::{Fixture, pod};
use crate::mesh::source::state::MeshState;

/// Pods `first..first + count` of so many services, as a cluster writes them.
fn pods(first: usize, count: usize, services: usize) -> String {
    let mut text = String::new();
    for number in first..first + count {
        let (app, ip) =
            (format!("service-{}", number % services), format!("10.110.{}.{}", number / 250, number % 250 + 1));
        write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {app}-5d8f7c9b64-{number:05}\n  namespace: crowd\n  uid: crowd-{number}\n  \
             labels: {{app: {app}, version: v1, pod-template-hash: 5d8f7c9b64}}\n  \
             ownerReferences: [{{kind: ReplicaSet, name: {app}-5d8f7c9b64, controller: true}}]\n\
             spec: {{nodeName: far-{}, serviceAccountName: {app}, containers: [{{name: app, image: example/app}}]}}\n\
             status:\n  phase: Running\n  podIP: {ip}\n  podIPs: [{{ip: {ip}}}]\n  conditions: [{{type: Ready, status: 'True'}}]\n",
            number % 10
        )
        .unwrap();
    }
    text
}

/// How many allocations the texts of all pods are in.
fn allocations(state: &MeshState) -> usize {
    let mut found: HashSet<*const u8> = HashSet::new();
    for workload in state.view.workloads() {
        let identity = &workload.identity;
        let pods = [&workload.pod.namespace, &workload.pod.name, &workload.uid, &workload.node, &workload.owner.name];
        let told = [&workload.canonical_name, &workload.canonical_revision, &workload.app, &workload.version];
        let labels = workload.labels.iter().flat_map(|(key, value)| [key, value]);
        found.extend(pods.into_iter().chain(told).chain(labels).map(|text| text.as_ptr()));
        found.extend([identity.namespace().as_ptr(), identity.service_account().as_ptr()]);
    }
    found.len()
}

#[test]
fn what_pods_have_in_common_is_there_once() {
    let fixture = Fixture::new(&[("a.yaml", &pods(0, 500, 100)), ("b.yaml", &pods(500, 500, 100))]);
    let state = fixture.state();
    assert_eq!(state.view.workloads().count(), 1_000);
    let of_its_own = 1_000 * 2;
    // Name and UID are the pod's own; of 100 services there are names, and of these accounts, and the same in labels.
    let allocations = allocations(&state) - of_its_own;
    assert!(allocations < 500, "{allocations} allocations for what 1000 pods of 100 services have in common");
    let labels: HashSet<*const str> =
        state.view.workloads().filter_map(|pod| Some(Arc::as_ptr(pod.labels.iter().next()?.1))).collect();
    assert_eq!(labels.len(), 100);
}

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
#[ignore = "measures; run it by itself and by name with --nocapture"]
fn memory_of_ten_thousand_pods() {
    let mut services = String::new();
    for number in 0..1_000 {
        write!(
            services,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: service-{number}, namespace: crowd}}\nspec:\n  \
             clusterIP: 10.102.{}.{}\n  selector: {{app: service-{number}}}\n  \
             ports: [{{name: http, port: 80, targetPort: 8080}}]\n",
            number / 250,
            number % 250 + 1
        )
        .unwrap();
    }
    let mut fixture = Fixture::new(&[]);
    fixture.write("services.yaml", services);
    (0..10).for_each(|file| fixture.write(&format!("{file}.yaml"), pods(file * 1_000, 1_000, 1_000)));
    let kept = |before: usize| resident().saturating_sub(before) / 10_000;
    crate::sys::memory::forget_unused().unwrap();
    let before = resident();
    fixture.settle();
    let untrimmed = kept(before);
    crate::sys::memory::forget_unused().unwrap();
    let trimmed = kept(before);
    assert_eq!(fixture.state().view.workloads().count(), 10_000);
    fixture.write("extra.yaml", pod("extra", "10.200.0.1"));
    fixture.settle();
    let changed = kept(before);
    crate::sys::memory::forget_unused().unwrap();
    println!(
        "bytes of each pod: {untrimmed} at first, {trimmed} trimmed; after a change {changed}, {} trimmed",
        kept(before)
    );
    let view = Arc::clone(&fixture.state().view);
    drop(fixture);
    crate::sys::memory::forget_unused().unwrap();
    println!("bytes of each pod in the view alone: {}", kept(before));
    drop(view);
    crate::sys::memory::forget_unused().unwrap();
    println!("bytes of each pod after all is gone: {}", kept(before));
}
