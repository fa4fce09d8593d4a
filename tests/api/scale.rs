//! Many objects: how long until the state is complete, and how much memory it takes.

use std::fs;
use std::time::Instant;

use harness::{ApiServer, eventually};
use serde_json::json;

use crate::following::{Followed, SOON};
use crate::objects;

fn scaled(variable: &str, usual: usize) -> usize {
    let text = std::env::var_os(variable).and_then(|value| value.into_string().ok());
    text.map_or(usual, |text| text.parse().unwrap())
}

/// Memory of this process, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn many_pods_are_known_soon_and_cost_little() {
    let Some(server) = ApiServer::start("many_pods_are_known_soon_and_cost_little") else { return };
    let (namespaces, pods) = (scaled("SOTTO_API_NAMESPACES", 20), scaled("SOTTO_API_PODS", 300));
    let label = json!({"istio.io/dataplane-mode": "ambient"});
    let spaces: Vec<_> = (0..namespaces).map(|n| objects::namespace(&format!("ns-{n}"), &label)).collect();
    server.create_all(&spaces);
    let address = |n: usize| format!("10.{}.{}.{}", n / 65536, n / 256 % 256, n % 256);
    let all: Vec<_> = (0..pods)
        .map(|n| objects::pod(&format!("ns-{}", n % namespaces), &format!("pod-{n}"), &address(n + 1)))
        .collect();
    let (begun, before) = (Instant::now(), resident());
    let followed = Followed::start(&server.kubeconfig());
    followed.wait("the empty state", |state| state.loaded);
    server.create_all(&all);
    let created = begun.elapsed();
    followed.wait_for(SOON * 4, "all pods came one by one", |state| state.view.workloads().count() == pods);
    let states = followed.state().version;
    println!("{pods} pods created one by one in {created:?}, {states} states were made of that");
    assert!(states < pods as u64, "a burst of changes is one conversion");
    drop(followed);

    let grown = resident();
    let begun = Instant::now();
    let followed = Followed::start(&server.kubeconfig());
    eventually(SOON, "all lists are complete", || followed.readiness.pending().is_empty().then_some(()));
    let synced = begun.elapsed();
    followed.wait("the state is published", |state| state.view.workloads().count() == pods);
    println!(
        "{namespaces} namespaces and {pods} pods: lists complete after {synced:?}, state after {:?}; resident {before} KiB at first, \
         {grown} KiB after creating, {} KiB with the state",
        begun.elapsed(),
        resident()
    );
    assert_eq!(followed.state().version, 1, "nothing was published in between");
    assert!(followed.state().view.workloads().all(|workload| workload.is_enrolled()));
}
