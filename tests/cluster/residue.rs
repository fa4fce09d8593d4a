//! What an uninstalled mesh must not leave behind.

use std::path::Path;
use std::process::Command;

use harness::eventually;
use harness::kube::{Cluster, KubePod};

use crate::installed::SETTLE;

/// Claims that nothing of the mesh is left on a pod's node and in its network namespace.
#[track_caller]
pub(crate) fn assert_no_trace(cluster: &Cluster, pod: &KubePod) {
    let node = cluster.nodes().into_iter().find(|node| node.name == pod.node).unwrap();
    let pids = node.processes(pod);
    let inside = |program: &str, arguments: &[&str]| {
        let target = format!("--target={}", pids[0]);
        output(Command::new("nsenter").args([&target, "--net", program]).args(arguments))
    };
    eventually(SETTLE, "no rule, route, queue or program is left in the pod", || {
        // Three rules are the kernel's own (ip-rule(8)), two of IPv6.
        let rules =
            inside("ip", &["-4", "rule"]).lines().count() == 3 && inside("ip", &["-6", "rule"]).lines().count() == 2;
        let queues = !inside("tc", &["qdisc", "show", "dev", "lo"]).contains("clsact");
        let programs = !inside("bpftool", &["net", "show", "dev", "lo"]).contains("prog_id");
        (rules && queues && programs).then_some(())
    });
    for folder in ["cni-conf", "cni-bin"] {
        let names = std::fs::read_dir(node.folder.join(folder)).unwrap().flatten().map(|entry| entry.file_name());
        let ours: Vec<_> = names.filter(|name| name.to_string_lossy().contains("sotto")).collect();
        assert!(ours.is_empty(), "{folder} of {}: {ours:?}", node.name);
    }
    // An empty folder may be there, or none.
    let pins = node.enter("ls", &["-A", "/sys/fs/bpf/sotto"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&pins.stdout), "", "what {} has pinned", node.name);
    // The group that is the root for everything on the node.
    let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(|root| Path::new(root).join(&node.label));
    let root = root.iter().find(|path| path.join("cgroup.procs").exists()).unwrap();
    let attached = output(Command::new("bpftool").args(["cgroup", "show"]).arg(root));
    assert!(!attached.contains("connect4") && !attached.contains("sock_ops"), "{attached}");
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
