//! To which pod and container a process belongs, read from the names of its cgroups: pure.
//!
//! The kubelet gives every pod a cgroup, and the runtime every container one beneath it:
//!
//! ```text
//! cgroupfs  /kubepods/besteffort/podUID/CONTAINER                  guaranteed pods: /kubepods/podUID/CONTAINER
//! systemd   /kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID.slice/cri-containerd-CONTAINER.scope
//!           (in the UID, _ stands for -)
//! ```
//!
//! in front of which may be the cgroups of a node inside a node. A reader in a cgroup namespace of its own sees paths relative to
//! it: `/../../kubepods-besteffort-podUID.slice/…`. What a container makes beneath its cgroup is its own affair and is never
//! taken for a pod: only the outermost name counts.

/// The pod and the container that a process belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    /// The pod's UID as the API server writes it, or a static pod's hash.
    pub(super) uid: String,
    /// What tells the containers of a pod apart; empty for a process in the pod's own cgroup.
    pub(super) container: String,
}

/// What `/proc/PID/cgroup` says of a process: a line per hierarchy, as in cgroups(7). None for a process of no pod, and for one
/// that is in different pods by different hierarchies.
pub(super) fn place(cgroups: &str) -> Option<Place> {
    let mut found: Option<Place> = None;
    for line in cgroups.lines() {
        // hierarchy-ID:controllers:path; the path may hold colons.
        let Some(place) = line.splitn(3, ':').nth(2).and_then(place_of) else { continue };
        match &mut found {
            None => found = Some(place),
            Some(first) if first.uid != place.uid => return None,
            // Hierarchies without the runtime's part show less.
            Some(first) if first.container.is_empty() => *first = place,
            Some(_) => {}
        }
    }
    found
}

/// The place that one path means.
fn place_of(path: &str) -> Option<Place> {
    // Logged-in users name their own cgroups.
    if path.starts_with("/user.slice/") {
        return None;
    }
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    let mut beneath_pods = false;
    while parts.next_if_eq(&"..").is_some() {
        // What follows may lie anywhere between the root and the reader's own pod.
        beneath_pods = true;
    }
    while let Some(part) = parts.next() {
        if let Some(uid) = uid_of(part).filter(|_| beneath_pods || part.ends_with(".slice")) {
            return Some(Place { uid, container: parts.next().unwrap_or_default().to_owned() });
        }
        beneath_pods = is_root(part) || beneath_pods && is_class(part);
    }
    None
}

/// Whether pods lie beneath: `kubepods`, `kubepods.slice`, `kubelet-kubepods.slice`.
fn is_root(part: &str) -> bool {
    part == "kubepods"
        || part.strip_suffix(".slice").is_some_and(|name| name == "kubepods" || name.ends_with("-kubepods"))
}

/// Whether it is a class of service: `besteffort`, `kubepods-burstable.slice`.
fn is_class(part: &str) -> bool {
    let name = part.strip_suffix(".slice").unwrap_or(part);
    let class = name.rsplit_once("kubepods-").map_or(name, |(_, class)| class);
    matches!(class, "besteffort" | "burstable")
}

/// The UID in the name of a pod's cgroup, as the API server writes it.
fn uid_of(part: &str) -> Option<String> {
    let uid = match part.strip_suffix(".slice") {
        Some(name) => {
            let (before, uid) = name.rsplit_once("-pod")?;
            let known = before.ends_with("kubepods") || is_class(before) && before.contains("kubepods-");
            known.then(|| uid.replace('_', "-"))?
        }
        None => part.strip_prefix("pod")?.to_owned(),
    };
    let valid = (1..=64).contains(&uid.len()) && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    valid.then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f4bd1f2-6f1c-4f3a-9a3e-5a7f8f9b1c2d";
    const SLICE_UID: &str = "0f4bd1f2_6f1c_4f3a_9a3e_5a7f8f9b1c2d";

    #[track_caller]
    fn found(cgroups: &str, container: &str) {
        let cgroups = cgroups.replace("UID", UID).replace("SLICED", SLICE_UID);
        let expected = Place { uid: UID.into(), container: container.into() };
        assert_eq!(place(&cgroups), Some(expected), "{cgroups}");
    }

    #[track_caller]
    fn none(cgroups: &str) {
        let cgroups = cgroups.replace("UID", UID).replace("SLICED", SLICE_UID);
        assert_eq!(place(&cgroups), None, "{cgroups}");
    }

    #[test]
    fn the_layout_of_the_cgroupfs_driver() {
        found("0::/kubepods/besteffort/podUID/c1", "c1");
        found("0::/kubepods/burstable/podUID/c1", "c1");
        found("0::/kubepods/podUID/c1", "c1");
        found("0::/kubepods/podUID", "");
        found("0::/node1/kubepods/besteffort/podUID/c1", "c1");
        found("0::/docker/0123/kubelet/kubepods/burstable/podUID/c1/init", "c1");
    }

    #[test]
    fn the_layout_of_the_systemd_driver() {
        let scope = "cri-containerd-c1.scope";
        found(
            &format!("0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podSLICED.slice/{scope}"),
            scope,
        );
        found(&format!("0::/kubepods.slice/kubepods-podSLICED.slice/{scope}"), scope);
        found("0::/kubepods.slice/kubepods-podSLICED.slice/crio-c1.scope/container", "crio-c1.scope");
        found(
            "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podSLICED.slice/x.scope",
            "x.scope",
        );
    }

    #[test]
    fn hierarchies_of_version_one_agree_or_are_silent() {
        found("12:pids:/kubepods/besteffort/podUID/c1\n11:cpu,cpuacct:/kubepods/besteffort/podUID/c1\n0::/", "c1");
        found("1:name=systemd:/system.slice/containerd.service\n5:memory:/kubepods/podUID/c1\n", "c1");
        found("3:cpuset:/kubepods/podUID\n2:cpu:/kubepods/podUID/c1", "c1");
        found(
            "4:cpu:/system.slice/containerd.service/kubepods-burstable-podSLICED.slice/cri-containerd-c1.scope",
            "cri-containerd-c1.scope",
        );
    }

    #[test]
    fn a_reader_in_a_cgroup_namespace_of_its_own_sees_the_way_there() {
        found("0::/../../podUID/c1", "c1");
        found("0::/../../../besteffort/podUID/c1", "c1");
        found("0::/../../../../kubepods/besteffort/podUID/c1", "c1");
        found("0::/../../kubepods-besteffort-podSLICED.slice/cri-containerd-c1.scope", "cri-containerd-c1.scope");
        none("0::/../c1");
    }

    #[test]
    fn other_processes_belong_to_no_pod() {
        for other in ["", "0::/", "0::/init.scope", "0::/system.slice/sshd.service", "garbage", "::", "0::/kubepods"] {
            none(other);
        }
        none("0::/user.slice/podUID/c1");
        none("0::/kubepods/besteffort/pod/c1");
        none("0::/kubepods/podx y/c1");
        none("0::/a/podUID");
        none(&format!("0::/kubepods/pod{}/c1", "a".repeat(65)));
        none("0::/evil-podSLICED.slice/x");
        none("0::/user.slice/user-1000.slice/kubepods-podSLICED.slice/x");
    }

    #[test]
    fn a_container_cannot_make_itself_another_pods() {
        let other = "11111111-2222-3333-4444-555555555555";
        found(&format!("0::/kubepods/podUID/c1/kubepods/pod{other}/c2"), "c1");
        found(&format!("0::/kubepods.slice/kubepods-podSLICED.slice/a.scope/kubepods-pod{other}.slice/b"), "a.scope");
        none(&format!("2:cpu:/kubepods/podUID/c1\n0::/kubepods/pod{other}/c2"));
    }
}
