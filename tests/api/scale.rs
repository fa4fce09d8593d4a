//! Many objects: how long until the state is complete, and how much memory it takes.

use std::fs;
use std::path::Path;
use std::process::Command;
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
    let begun = Instant::now();
    let followed = Followed::start(&server.kubeconfig());
    followed.wait("the empty state", |state| state.loaded);
    server.create_all(&all);
    let created = begun.elapsed();
    followed.wait_for(SOON * 4, "all pods came one by one", |state| state.view.workloads().count() == pods);
    let states = followed.state().version;
    println!("{pods} pods created one by one in {created:?}, {states} states were made of that");
    assert!(states < pods as u64, "a burst of changes is one conversion");
    drop(followed);

    // In a process of its own: this one has made all those objects.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "scale::what_a_source_takes", "--ignored", "--nocapture"])
        .env("SOTTO_API_KUBECONFIG", server.kubeconfig())
        .env("SOTTO_API_PODS", pods.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let figures = said.lines().find(|line| line.contains("resident")).unwrap_or_default();
    println!("{namespaces} namespaces, {pods} pods: {figures}");
    assert!(child.status.success() && !figures.is_empty(), "{said}{}", String::from_utf8_lossy(&child.stderr));
}

#[test]
#[ignore = "needs SOTTO_API_KUBECONFIG"]
fn what_a_source_takes() {
    let kubeconfig = std::env::var_os("SOTTO_API_KUBECONFIG").unwrap();
    let pods = scaled("SOTTO_API_PODS", 300);
    let (begun, before) = (Instant::now(), resident());
    let followed = Followed::start(Path::new(&kubeconfig));
    eventually(SOON, "all lists are complete", || followed.readiness.pending().is_empty().then_some(()));
    let synced = begun.elapsed();
    followed.wait("the state is published", |state| state.view.workloads().count() == pods);
    let published = begun.elapsed();
    println!(
        "lists complete after {synced:?}, state after {published:?}; resident {before} KiB before, {} KiB after",
        resident()
    );
    assert_eq!(followed.state().version, 1, "nothing was published in between");
    assert!(followed.state().view.workloads().all(|workload| workload.is_enrolled()));
}
