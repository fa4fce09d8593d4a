//! The cluster that the tier was started with, and its nodes as this machine sees them.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::kubectl::Kubectl;
use super::pod::KubePod;

/// Where the administrator's kubeconfig is.
const KUBECONFIG: &str = "KUBECONFIG";
/// The cluster's folder on this machine.
const STATE: &str = "SOTTO_CLUSTER_STATE";
/// Where cgroup hierarchies are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Held by the test that has the cluster: what one takes away another would miss.
static TURN: Mutex<()> = Mutex::new(());

/// A running cluster. All tests of the program have it, one after the other.
#[derive(Debug)]
pub struct Cluster {
    kubectl: Kubectl,
    state: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

/// A node: processes in namespaces of this machine.
#[derive(Debug, Clone)]
pub struct ClusterNode {
    /// The Node object's name.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// What its cgroups and its network namespace are called on this machine.
    pub label: String,
    /// The folder with its files: `log`, `cni-conf` (its /etc/cni/net.d), `cni-bin` (its /opt/cni/bin).
    pub folder: PathBuf,
    holder: u32,
}

impl Cluster {
    /// The cluster of `cargo xtask test cluster`. `None`, with a line that starts with `skipped:`, where there is none.
    #[must_use]
    pub fn of_tier(test: &str) -> Option<Self> {
        let (Some(kubeconfig), Some(state)) = (std::env::var_os(KUBECONFIG), std::env::var_os(STATE)) else {
            let why = format!("{KUBECONFIG} and {STATE} are not set: `cargo xtask test cluster` sets them");
            // Straight to the descriptor: the test runner would keep a print from being seen.
            let _ = writeln!(std::io::stdout().lock(), "skipped: {test}: {why}");
            return None;
        };
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Self { kubectl: Kubectl::new(Path::new(&kubeconfig)), state: state.into(), _turn: turn })
    }

    /// kubectl as administrator.
    #[must_use]
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The nodes, in the order of their names.
    ///
    /// # Panics
    /// When the server does not answer, or a Node has no process on this machine.
    #[track_caller]
    #[must_use]
    pub fn nodes(&self) -> Vec<ClusterNode> {
        let list = self.kubectl.get(&["nodes"]);
        let nodes = list["items"].as_array().expect("a list has items");
        nodes.iter().map(|node| self.node_of(node)).collect()
    }

    /// What the log of a part of the control plane says.
    #[must_use]
    pub fn log(&self, part: &str) -> String {
        read_lossy(&self.state.join("log").join(format!("{part}.log")))
    }

    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    fn node_of(&self, node: &Value) -> ClusterNode {
        let name = node["metadata"]["name"].as_str().expect("an object has a name").to_owned();
        let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
        let internal =
            addresses.filter(|address| address["type"] == "InternalIP").find_map(|one| one["address"].as_str());
        let ip = internal.and_then(|ip| ip.parse().ok()).unwrap_or_else(|| panic!("the Node {name} has no address"));
        let record = self.state.join("run").join(format!("node-{name}.json"));
        let folder = self.state.join("nodes").join(&name);
        let text = |path: &Path| serde_json::from_str::<Value>(&read_lossy(path)).unwrap_or_default();
        let pid = text(&record)["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let pid = pid.unwrap_or_else(|| panic!("{} names no process", record.display()));
        let label = text(&folder.join("node.json"))["label"].as_str().unwrap_or_default().to_owned();
        ClusterNode { name, ip, label, folder, holder: pid }
    }
}

impl ClusterNode {
    /// A program in all namespaces of the node, with its file system and its process ids.
    ///
    /// # Panics
    /// When the node does not run.
    #[track_caller]
    #[must_use]
    pub fn enter(&self, program: &str, arguments: &[&str]) -> Command {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.holder)).unwrap_or_default();
        let first = children.split_whitespace().next();
        let pid = first.unwrap_or_else(|| panic!("{} does not run", self.name));
        let mut command = Command::new("nsenter");
        command.args(["--target", pid, "--all", "--", program]).args(arguments);
        command
    }

    /// The cgroups of a pod's containers in the hierarchy of cgroup2, as this machine sees them; the sandbox has one too.
    #[must_use]
    pub fn container_cgroups(&self, pod: &KubePod) -> Vec<PathBuf> {
        let unified = Path::new(CGROUPS).join("unified");
        let root = if unified.exists() { unified } else { CGROUPS.into() };
        let pods = root.join(&self.label).join("kubepods");
        let own = format!("pod{}", pod.uid);
        // A guaranteed pod is directly below; the others are in a group of their class.
        let classes = [pods.clone(), pods.join("burstable"), pods.join("besteffort")];
        let found = classes.iter().map(|class| class.join(&own)).find(|path| path.is_dir());
        let entries = found.into_iter().flat_map(|path| fs::read_dir(path).into_iter().flatten().flatten());
        let mut groups: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        groups.sort();
        groups
    }

    /// The processes of a pod, as this machine counts them.
    #[must_use]
    pub fn processes(&self, pod: &KubePod) -> Vec<u32> {
        let groups = self.container_cgroups(pod);
        let text = groups.iter().map(|group| read_lossy(&group.join("cgroup.procs"))).collect::<String>();
        text.lines().filter_map(|pid| pid.parse().ok()).collect()
    }
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
