//! Finding the kubelet's cgroup.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::sys::cgroup::{self, CgroupMount};

/// Where systemd runs a kubelet, and nothing else, on the distributions of this field. Not here are units that run more than a
/// kubelet (k3s, RKE2): an API server in the same cgroup would be let in as well, and it connects for others (`pods/proxy`).
const USUAL: [&str; 4] = [
    "/system.slice/kubelet.service",
    "/kubelet.slice/kubelet.service",
    "/runtime.slice/kubelet.service",
    "/podruntime.slice/kubelet.service",
];

/// How the names of cgroups of pods begin. Whoever is in one is a pod, on the host's network or not.
const PODS: &str = "kubepods";

/// `--kubelet-cgroup`: where the kubelet is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KubeletCgroup {
    /// In one of the usual places.
    #[default]
    Usual,
    /// In this directory of the cgroup2 hierarchy, from its root.
    At(PathBuf),
    /// Nowhere: probes count as any other connection in clear text.
    Nowhere,
}

/// Why a path cannot be the kubelet's cgroup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not a path from the root of the hierarchy.
    #[error(
        "{0:?}: write the path from the root of the cgroup2 hierarchy, as /system.slice/kubelet.service, or `none`"
    )]
    Form(String),
    /// The root: what nobody has put anywhere.
    #[error(
        "the root of the cgroup2 hierarchy holds every process that has no cgroup of its own, so that the kubelet cannot be told \
         apart there: give it one (mkdir /sys/fs/cgroup/kubelet and write its process id into cgroup.procs there, before it makes \
         its first connection), or refuse its probes with `none`"
    )]
    Root,
    /// The cgroup of pods.
    #[error("{0:?} is a cgroup of pods: a pod on the host's network would be taken for the kubelet")]
    Pods(String),
}

/// The kubelet's cgroup, or why there is none: what operators see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KubeletStatus {
    /// Its path from the root of the hierarchy.
    pub cgroup: Option<PathBuf>,
    /// Its id.
    pub id: Option<u64>,
    /// What is missing, and what to do about it.
    pub problem: Option<String>,
}

impl FromStr for KubeletCgroup {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text == "none" {
            return Ok(Self::Nowhere);
        }
        let mut components = Path::new(text).components();
        if components.next() != Some(Component::RootDir) {
            return Err(PathError::Form(text.to_owned()));
        }
        let names: Option<Vec<_>> = components
            .map(|component| match component {
                Component::Normal(name) => name.to_str(),
                Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
            })
            .collect();
        match names {
            None => Err(PathError::Form(text.to_owned())),
            Some(names) if names.is_empty() => Err(PathError::Root),
            // `kubepods`, `kubepods.slice`, `kubelet-kubepods.slice`
            Some(names) if names.iter().any(|name| name.contains(PODS)) => Err(PathError::Pods(text.to_owned())),
            Some(names) => Ok(Self::At(Path::new("/").join(names.join("/")))),
        }
    }
}

impl fmt::Display for KubeletCgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => f.write_str(&USUAL.join(", ")),
            Self::At(path) => path.display().fmt(f),
            Self::Nowhere => f.write_str("none"),
        }
    }
}

impl KubeletCgroup {
    /// Looks for it now, below the root of the hierarchy, wherever that is mounted.
    #[must_use]
    pub fn find(&self, mounts: &[CgroupMount]) -> KubeletStatus {
        let places: Vec<&Path> = match self {
            Self::Nowhere => return KubeletStatus::default(),
            Self::At(path) => vec![path],
            Self::Usual => USUAL.iter().map(Path::new).collect(),
        };
        let Some(root) = mounts.iter().find(|mount| mount.is_root) else {
            return KubeletStatus::missing("the root of the cgroup2 hierarchy is not mounted here".to_owned());
        };
        let at = |place: &Path| {
            let below = place.strip_prefix("/").unwrap_or(place);
            let id = cgroup::id(&root.path.join(below)).ok()?;
            Some(KubeletStatus { cgroup: Some(place.to_owned()), id: Some(id), problem: None })
        };
        places.into_iter().find_map(at).unwrap_or_else(|| {
            KubeletStatus::missing(format!(
                "the kubelet's cgroup is not there ({self}): its probes are refused where policy asks for an identity; name the \
                 cgroup with --kubelet-cgroup, or `none` if nobody probes"
            ))
        })
    }
}

impl KubeletStatus {
    fn missing(problem: String) -> Self {
        Self { problem: Some(problem), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_cgroup_that_can_be_the_kubelets_alone_is_taken() {
        let parse = |text: &str| text.parse::<KubeletCgroup>();
        assert_eq!(parse("none"), Ok(KubeletCgroup::Nowhere));
        let at = KubeletCgroup::At("/system.slice/kubelet.service".into());
        assert_eq!(parse("/system.slice//kubelet.service/"), Ok(at));
        for text in ["", "system.slice/kubelet.service", "/a/../b", "/..", "nothing"] {
            assert_eq!(parse(text), Err(PathError::Form(text.to_owned())), "{text}");
        }
        assert_eq!([parse("/"), parse("//")], [Err(PathError::Root), Err(PathError::Root)]);
        for text in ["/kubepods", "/kubepods.slice/x", "/kubelet.slice/kubelet-kubepods.slice/y"] {
            assert_eq!(parse(text), Err(PathError::Pods(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn it_is_found_where_it_is_now() {
        let directory = tempfile::tempdir().unwrap();
        let mounts = [
            CgroupMount { path: "/nowhere".into(), is_root: false },
            CgroupMount { path: directory.path().into(), is_root: true },
        ];
        let usual = KubeletCgroup::Usual;
        assert!(usual.find(&mounts).problem.is_some_and(|problem| problem.contains("--kubelet-cgroup")));
        let unit = directory.path().join("runtime.slice/kubelet.service");
        fs::create_dir_all(&unit).unwrap();
        let found = usual.find(&mounts);
        assert_eq!(found.cgroup, Some("/runtime.slice/kubelet.service".into()));
        assert_eq!(found.id, Some(cgroup::id(&unit).unwrap()));
        assert!(KubeletCgroup::At("/elsewhere".into()).find(&mounts).problem.is_some());
        assert_eq!(KubeletCgroup::Nowhere.find(&mounts), KubeletStatus::default());
        assert!(usual.find(&mounts[..1]).problem.is_some_and(|problem| problem.contains("root")));
    }
}
