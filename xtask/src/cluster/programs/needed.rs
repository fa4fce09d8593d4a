//! Which programs are needed for what, and where each comes from.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::debian::{self, Unreachable};
use super::kubernetes;
use crate::cache::Cache;
use crate::cluster::kubectl::is_recent;
use crate::workspace::{on_path, setting};

/// Names a folder with etcd, kube-apiserver and kubectl that somebody else prepared.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// What answers API requests.
const API: [&str; 2] = ["kube-apiserver", "kube-controller-manager"];
/// What runs pods besides.
const NODES: [&str; 3] = ["kube-scheduler", "kubelet", "kube-proxy"];
/// Packages of the programs on a node, and of the libraries that the machine may lack.
const NODE_PACKAGES: [&str; 18] = [
    "busybox-static",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "ethtool",
    "ipset",
    "iptables",
    "libip4tc2",
    "libip6tc2",
    "libipset13",
    "libmnl0",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libseccomp2",
    "libwrap0",
    "libxtables12",
    "runc",
    "socat",
];

/// How much of a cluster is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// etcd, API server and controller manager.
    Api,
    /// Nodes too.
    Nodes,
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    bin: PathBuf,
    tools: PathBuf,
}

impl Programs {
    /// Finds, unpacks or builds what is needed.
    pub(crate) fn ensure(extent: Extent) -> Result<Self> {
        let cache = Cache::open()?;
        if let (Extent::Api, Some(assets)) = (extent, setting(ASSETS).map(PathBuf::from)) {
            for program in ["etcd", "kube-apiserver", "kubectl"] {
                ensure!(
                    assets.join(program).is_file(),
                    "{ASSETS} is {}, and there is no {program} in it",
                    assets.display()
                );
            }
            return Ok(Self { bin: assets, tools: PathBuf::new() });
        }
        let etcd = debian::unpacked(&cache, &named("etcd-3.4"), &["etcd-server"], &["usr/bin/etcd"])?;
        let kubectl = machines_kubectl();
        let mut all: Vec<_> = API.into_iter().chain(NODES).collect();
        let mut wanted = match extent {
            Extent::Api => API.to_vec(),
            Extent::Nodes => all.clone(),
        };
        if kubectl.is_none() {
            wanted.push("kubectl");
            all.push("kubectl");
        }
        let bin = kubernetes::ensure(&cache, &wanted, &all)?;
        link(&etcd.join("usr/bin/etcd"), &bin.join("etcd"))?;
        if let Some(kubectl) = kubectl {
            link(&kubectl, &bin.join("kubectl"))?;
        }
        let tools = match extent {
            Extent::Api => PathBuf::new(),
            Extent::Nodes => {
                let ready = ["usr/bin/containerd", "usr/sbin/runc", "usr/lib/cni/bridge", "bin/busybox"];
                debian::unpacked(&cache, &named("node-tools-r1"), &NODE_PACKAGES, &ready)?
            }
        };
        Ok(Self { bin, tools })
    }

    /// The folder with etcd, the servers and kubectl.
    pub(crate) fn bin(&self) -> &Path {
        &self.bin
    }

    /// One of them.
    pub(in crate::cluster) fn path(&self, program: &str) -> PathBuf {
        self.bin.join(program)
    }

    /// A file of the packages for nodes.
    pub(in crate::cluster) fn tool(&self, file: &str) -> PathBuf {
        self.tools.join(file)
    }

    /// Folders of programs for a node, the libraries of these, and the extensions of iptables.
    pub(in crate::cluster) fn tool_folders(&self) -> (Vec<PathBuf>, PathBuf, PathBuf) {
        let programs = ["usr/bin", "usr/sbin", "sbin"].map(|folder| self.tool(folder)).to_vec();
        let libraries = self.tool("usr/lib").join(debian::triplet());
        let extensions = libraries.join("xtables");
        (programs, libraries, extensions)
    }
}

/// Why this machine cannot have the programs; empty when it can, as far as one can tell without asking the network.
pub(crate) fn obstacles(extent: Extent) -> Vec<String> {
    if extent == Extent::Api && setting(ASSETS).is_some() {
        return Vec::new();
    }
    let mut found: Vec<_> = debian::obstacle().into_iter().collect();
    if on_path("openssl").is_none() {
        found.push("the program openssl is missing".into());
    }
    found
}

/// Whether an error came from a network that is not there.
pub(crate) fn is_unreachable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Unreachable>().is_some()
}

fn named(what: &str) -> String {
    format!("debian-{what}-{}", std::env::consts::ARCH)
}

/// The machine's kubectl, if it is new enough for the tests.
fn machines_kubectl() -> Option<PathBuf> {
    let program = on_path("kubectl")?;
    let answer = Command::new(&program).args(["version", "--client", "-o", "json"]).output().ok()?;
    is_recent(&String::from_utf8_lossy(&answer.stdout)).then_some(program)
}

/// Makes `place` a link to `target`, also where another run does the same.
fn link(target: &Path, place: &Path) -> Result<()> {
    if fs::read_link(place).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let fresh = place.with_extension(format!("{}.link", std::process::id()));
    symlink(target, &fresh).with_context(|| format!("cannot create {}", fresh.display()))?;
    Ok(fs::rename(fresh, place)?)
}
