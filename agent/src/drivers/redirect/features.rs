//! Whether this machine can run the programs, and what to do where it cannot.

use std::path::{Path, PathBuf};

use super::error::RedirectError;
use super::load::Programs;
use crate::sys::capability::{Capabilities, Capability};
use crate::sys::cgroup::{self, CgroupMount};
use crate::sys::mount;

/// Something the redirection needs and does not find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What.
    pub feature: String,
    /// What to do about it.
    pub remedy: String,
}

/// Where programs would be attached and pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The cgroup.
    pub cgroup: PathBuf,
    /// Whether bpffs is mounted; where it is not, the agent mounts it.
    pub bpffs: bool,
}

/// Looks for the privileges and the file systems that the programs need, and changes nothing.
///
/// # Errors
/// Everything that is missing.
pub fn find_place(configured: Option<PathBuf>) -> Result<Place, Vec<Missing>> {
    let unreadable = |what: &str, error: std::io::Error| {
        vec![Missing { feature: format!("{what} ({error})"), remedy: "mount /proc".to_owned() }]
    };
    let bpffs = mount::is_on_bpffs(mount::BPFFS.as_ref());
    let facts = Facts {
        capabilities: Capabilities::of_this_process().map_err(|error| unreadable("/proc/self/status", error))?,
        configured,
        mounts: cgroup::mounts().map_err(|error| unreadable("/proc/self/mountinfo", error))?,
        bpffs: bpffs.as_ref().map(drop).map_err(ToString::to_string),
    };
    Ok(Place { cgroup: facts.judge()?, bpffs: bpffs.unwrap_or_default() })
}

/// Has the kernel check every program, without attaching or pinning any; their number.
///
/// # Errors
/// What it says of the first that it refuses.
pub fn try_programs() -> Result<usize, RedirectError> {
    Programs::probe()
}

/// What the start looks at.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) capabilities: Capabilities,
    /// The cgroup that the configuration names.
    pub(super) configured: Option<PathBuf>,
    /// The cgroup2 mounts, hierarchy roots first.
    pub(super) mounts: Vec<CgroupMount>,
    /// Whether the pins' directory is on bpffs, or why not.
    pub(super) bpffs: Result<(), String>,
}

impl Facts {
    /// Looks, and mounts bpffs where it belongs if it is not there.
    pub(super) fn gather(pin_dir: &Path, configured: Option<&Path>) -> Result<Self, RedirectError> {
        Ok(Self {
            capabilities: Capabilities::of_this_process().map_err(RedirectError::kernel("read /proc/self/status"))?,
            configured: configured.map(Path::to_owned),
            mounts: cgroup::mounts().map_err(RedirectError::kernel("read /proc/self/mountinfo"))?,
            bpffs: bpffs(pin_dir),
        })
    }

    /// The cgroup to attach to, or everything that is missing.
    pub(super) fn judge(&self) -> Result<PathBuf, Vec<Missing>> {
        let mut missing = Vec::new();
        for (capability, name) in [
            (Capability::Bpf, "CAP_BPF"),
            (Capability::Perfmon, "CAP_PERFMON"),
            (Capability::NetAdmin, "CAP_NET_ADMIN"),
            (Capability::SysAdmin, "CAP_SYS_ADMIN"),
        ] {
            if !self.capabilities.has(capability) {
                missing.push(Missing {
                    feature: name.to_owned(),
                    remedy: "run the agent as root, or grant it this capability".to_owned(),
                });
            }
        }
        if let Err(reason) = &self.bpffs {
            missing.push(Missing {
                feature: format!("bpffs for the pins ({reason})"),
                remedy: format!(
                    "run `mount -t bpf bpf {0}` on the node; in a container, mount the host's {0} into it",
                    mount::BPFFS
                ),
            });
        }
        match self.cgroup() {
            Ok(cgroup) if missing.is_empty() => return Ok(cgroup),
            Ok(_) => {}
            Err(cgroup) => missing.push(cgroup),
        }
        Err(missing)
    }

    fn cgroup(&self) -> Result<PathBuf, Missing> {
        if let Some(configured) = &self.configured {
            return Ok(configured.clone());
        }
        match self.mounts.first() {
            Some(mount) if mount.is_root => Ok(mount.path.clone()),
            Some(mount) => Err(Missing {
                feature: format!("the root of the cgroup2 hierarchy ({} is a part of it)", mount.path.display()),
                remedy:
                    "mount the host's cgroup2 root into the agent's container, and name it as the cgroup to attach to \
                         if it has company"
                        .to_owned(),
            }),
            None => Err(Missing {
                feature: "a cgroup2 mount".to_owned(),
                remedy:
                    "run `mount -t cgroup2 none /sys/fs/cgroup` (beside cgroup v1: /sys/fs/cgroup/unified) on the node"
                        .to_owned(),
            }),
        }
    }
}

/// What a program that the kernel does not load means for the operator.
pub(super) fn program_missing(program: &str, kernel: &str, reason: &str) -> Missing {
    Missing {
        feature: format!("kernel support for the program {program} ({})", reason.lines().next().unwrap_or_default()),
        remedy: format!(
            "Linux 5.17 or newer with CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF and CONFIG_NET_CLS_ACT; this is {kernel}"
        ),
    }
}

fn bpffs(pin_dir: &Path) -> Result<(), String> {
    let on_bpffs = || mount::is_on_bpffs(pin_dir).map_err(|error| format!("{}: {error}", pin_dir.display()));
    if on_bpffs()? {
        return Ok(());
    }
    if !pin_dir.starts_with(mount::BPFFS) {
        return Err(format!("{} is not on bpffs", pin_dir.display()));
    }
    mount::mount_bpffs().map_err(|error| format!("cannot mount it on {}: {error}", mount::BPFFS))?;
    tracing::info!(path = mount::BPFFS, "mounted bpffs; what is pinned there lives as long as this mount");
    if on_bpffs()? { Ok(()) } else { Err(format!("{} is not on bpffs", pin_dir.display())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            capabilities: Capabilities::of(&[Capability::SysAdmin, Capability::NetAdmin]),
            configured: None,
            mounts: vec![
                CgroupMount { path: "/sys/fs/cgroup".into(), is_root: true },
                CgroupMount { path: "/mnt/part".into(), is_root: false },
            ],
            bpffs: Ok(()),
        }
    }

    fn features(facts: &Facts) -> Vec<String> {
        facts.judge().unwrap_err().into_iter().map(|missing| missing.feature).collect()
    }

    #[test]
    fn a_good_machine_is_good() {
        assert_eq!(good().judge(), Ok("/sys/fs/cgroup".into()));
        let configured = Facts { configured: Some("/mnt/part".into()), mounts: Vec::new(), ..good() };
        assert_eq!(configured.judge(), Ok("/mnt/part".into()));
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let facts = Facts {
            capabilities: Capabilities::of(&[]),
            configured: None,
            mounts: Vec::new(),
            bpffs: Err("read-only".to_owned()),
        };
        assert_eq!(
            features(&facts),
            [
                "CAP_BPF",
                "CAP_PERFMON",
                "CAP_NET_ADMIN",
                "CAP_SYS_ADMIN",
                "bpffs for the pins (read-only)",
                "a cgroup2 mount"
            ]
        );
        let text = RedirectError::Missing(facts.judge().unwrap_err()).to_string();
        assert!(
            text.contains("CAP_BPF: run the agent as root") && text.contains("mount -t bpf bpf /sys/fs/bpf"),
            "{text}"
        );
    }

    #[test]
    fn a_containers_part_of_the_hierarchy_would_capture_nothing() {
        let facts = Facts { mounts: vec![CgroupMount { path: "/sys/fs/cgroup".into(), is_root: false }], ..good() };
        assert_eq!(features(&facts), ["the root of the cgroup2 hierarchy (/sys/fs/cgroup is a part of it)"]);
    }

    #[test]
    fn an_old_kernel_is_told_apart() {
        let missing = program_missing("sotto_inbound", "5.10.0", "invalid argument\nverifier log");
        assert_eq!(missing.feature, "kernel support for the program sotto_inbound (invalid argument)");
        assert!(missing.remedy.contains("5.17") && missing.remedy.ends_with("this is 5.10.0"));
    }
}
