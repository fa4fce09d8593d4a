//! What this machine can run: the netns tier loads eBPF programs and makes network namespaces.

use std::fs;

use anyhow::{Result, bail};

use crate::cluster::programs::{self, Extent};
use crate::workspace::on_path;

/// The oldest kernel that sotto supports.
const KERNEL: (u32, u32) = (5, 15);
/// Capability numbers (capabilities(7)) and names.
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];
/// What the harness calls.
const PROGRAMS: [&str; 3] = ["ip", "tcpdump", "bpftool"];

/// What starts a node and goes into it.
const NODE_PROGRAMS: [&str; 2] = ["nsenter", "unshare"];

/// What the kernel tells about itself and about us.
#[derive(Debug, Clone, Default)]
struct Facts {
    /// `/proc/self/status`.
    status: String,
    /// `/proc/mounts`.
    mounts: String,
    /// `/proc/filesystems`.
    filesystems: String,
    /// `/proc/sys/kernel/osrelease`.
    release: String,
    /// Programs that are not on `PATH`.
    missing: Vec<&'static str>,
}

/// Why tests with network namespaces and eBPF cannot run here; empty when they can.
pub(crate) fn netns_obstacles() -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    obstacles(&Facts {
        status: read("/proc/self/status"),
        mounts: read("/proc/mounts"),
        filesystems: read("/proc/filesystems"),
        release: read("/proc/sys/kernel/osrelease"),
        missing: PROGRAMS.into_iter().filter(|program| on_path(program).is_none()).collect(),
    })
}

/// Why a cluster with nodes cannot run here; empty when it can.
pub(crate) fn cluster_obstacles() -> Vec<String> {
    let mut found = netns_obstacles();
    found.extend(programs::obstacles(Extent::Nodes));
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.lines().any(|line| line.split_whitespace().last() == Some("overlay")) {
        found.push("the kernel has no overlay file system, which containers and nodes are made of".into());
    }
    found.extend(
        NODE_PROGRAMS
            .into_iter()
            .filter(|program| on_path(program).is_none())
            .map(|program| format!("the program {program} is missing: install util-linux")),
    );
    found
}

/// An error that names what is missing.
pub(crate) fn require_netns(what: &str) -> Result<()> {
    let obstacles = netns_obstacles();
    if obstacles.is_empty() {
        return Ok(());
    }
    bail!("{what} cannot run on this machine:\n  - {}", obstacles.join("\n  - "))
}

fn obstacles(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    let effective = effective_capabilities(&facts.status);
    let lacking: Vec<_> =
        CAPABILITIES.iter().filter(|(number, _)| effective & (1 << number) == 0).map(|(_, name)| *name).collect();
    if !lacking.is_empty() {
        found.push(format!("{} missing: run it as root", lacking.join(" and ")));
    }
    if !facts.mounts.lines().any(|line| line.split(' ').nth(2) == Some("cgroup2")) {
        found.push(
            "no cgroup2 is mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified` (make the folder first)".into(),
        );
    }
    if !facts.filesystems.lines().any(|line| line.split_whitespace().last() == Some("bpf")) {
        found.push("the kernel has no bpf file system: it needs CONFIG_BPF_SYSCALL".into());
    }
    match kernel_version(&facts.release) {
        Some(version) if version >= KERNEL => {}
        Some((major, minor)) => {
            found.push(format!("the kernel is {major}.{minor}: sotto needs {}.{} or newer", KERNEL.0, KERNEL.1));
        }
        None => found.push(format!("the kernel's release {:?} is not understood", facts.release.trim())),
    }
    if !facts.missing.is_empty() {
        found.push(format!("not on PATH: {} (`cargo xtask setup` as root installs them)", facts.missing.join(", ")));
    }
    found
}

fn effective_capabilities(status: &str) -> u64 {
    let field = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    field.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able() -> Facts {
        Facts {
            status: "Name:\tx\nCapEff:\t000001ffffffffff\n".into(),
            mounts: "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n".into(),
            filesystems: "nodev\tbpf\n\text4\n".into(),
            release: "6.1.0-18-amd64\n".into(),
            missing: Vec::new(),
        }
    }

    #[test]
    fn an_able_machine_has_no_obstacle() {
        assert_eq!(obstacles(&able()), Vec::<String>::new());
    }

    #[test]
    fn each_obstacle_is_named_with_its_remedy() {
        let without_rights = Facts { status: "CapEff:\t0000000000001000\n".into(), ..able() };
        assert_eq!(obstacles(&without_rights), ["CAP_SYS_ADMIN missing: run it as root"]);
        let without_cgroup = Facts { mounts: "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n".into(), ..able() };
        assert!(obstacles(&without_cgroup)[0].contains("mount -t cgroup2"));
        assert!(obstacles(&Facts { filesystems: "ext4\n".into(), ..able() })[0].contains("CONFIG_BPF_SYSCALL"));
        assert!(obstacles(&Facts { release: "5.10.0".into(), ..able() })[0].contains("5.15"));
        assert!(obstacles(&Facts { missing: vec!["tcpdump"], ..able() })[0].contains("tcpdump"));
    }

    #[test]
    fn a_machine_that_tells_nothing_can_run_nothing() {
        assert_eq!(obstacles(&Facts::default()).len(), 4);
    }
}
