//! The cluster itself, as the tests rely on it: pods on two nodes reach each other, and each can be found from outside.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use harness::kube::{Cluster, ClusterNode, KubePod};
use serde_json::json;

#[test]
fn pods_on_two_nodes_reach_each_other_and_are_found_by_uid() {
    let Some(cluster) = Cluster::of_tier("pods_on_two_nodes_reach_each_other_and_are_found_by_uid") else { return };
    let nodes = cluster.nodes();
    assert_eq!(nodes.len(), 2, "{nodes:?}");
    let namespace = cluster.kubectl().namespace("nodes", &json!({}));
    let serve = "mkdir -p /tmp/www && hostname >/tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www";
    let pods: Vec<_> = nodes
        .iter()
        .map(|node| cluster.run_pod(&namespace, &format!("on-{}", node.name), &node.name, serve, |_| {}))
        .collect();
    assert_eq!((&pods[0].node, &pods[1].node), (&nodes[0].name, &nodes[1].name));
    assert_eq!(pods[0].fetch(pods[1].ip, 8080), pods[1].name);
    assert_eq!(pods[1].fetch(pods[0].ip, 8080), pods[0].name);

    let namespaces: BTreeSet<_> = nodes.iter().zip(&pods).map(|(node, pod)| network_namespace(node, pod)).collect();
    let machine = fs::metadata("/proc/self/ns/net").unwrap().ino();
    assert!(namespaces.len() == 2 && !namespaces.contains(&machine), "{namespaces:?}, this machine {machine}");
    // Each node has no group of the other's pods.
    assert!(nodes[0].container_cgroups(&pods[1]).is_empty() && nodes[1].container_cgroups(&pods[0]).is_empty());
}

/// The one that all processes of a pod are in, found by its UID alone; the pod's address is there.
fn network_namespace(node: &ClusterNode, pod: &KubePod) -> u64 {
    assert_eq!(node.container_cgroups(pod).len(), 2, "the sandbox's and the container's: {node:?}");
    let pids = node.processes(pod);
    assert!(pids.len() >= 2, "{pids:?}");
    let inode = |pid: &u32| fs::metadata(format!("/proc/{pid}/ns/net")).unwrap().ino();
    let found: BTreeSet<_> = pids.iter().map(inode).collect();
    assert_eq!(found.len(), 1, "{pids:?}");
    let table = fs::read_to_string(format!("/proc/{}/net/fib_trie", pids[0])).unwrap();
    assert!(table.contains(&pod.ip.to_string()), "{} is not among the addresses of {}:\n{table}", pod.ip, pod.name);
    // The kubelet's own view, where pids differ.
    let path = format!("/sys/fs/cgroup/unified/kubepods/besteffort/pod{}", pod.uid);
    let seen = node.enter("ls", &[&path]).output().unwrap();
    assert!(seen.status.success(), "{}: {}", node.name, String::from_utf8_lossy(&seen.stderr));
    *found.first().unwrap()
}
