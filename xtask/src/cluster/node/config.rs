//! The configuration files of what runs on a node, and what pid 1 of the node has to know.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cluster::network::{PODS, Place};
use crate::cluster::programs::Programs;
use crate::cluster::state::State;

/// Plugins of the reference set that a node has; others are installed as on any node, into `/opt/cni/bin`.
const PLUGINS: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];
/// A node's folders that become folders of its file system.
pub(super) const BINDS: [(&str, &str); 6] = [
    ("kubelet", "/var/lib/kubelet"),
    ("containerd", "/var/lib/containerd"),
    ("cni", "/var/lib/cni"),
    ("log", "/var/log"),
    ("cni-conf", "/etc/cni/net.d"),
    ("cni-bin", "/opt/cni/bin"),
];
/// Written by the kubelet for the whole machine, unless it finds what it wants: each node gets files of its own for them.
pub(super) const SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// What pid 1 of a node reads from `node.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The Node's name.
    pub(super) name: String,
    /// The name of its groups.
    pub(super) label: String,
    /// Its address.
    pub(super) address: String,
    /// The folder with the servers.
    pub(super) servers: PathBuf,
    /// The folder with keys and kubeconfigs.
    pub(super) pki: PathBuf,
    /// Folders of other programs.
    pub(super) programs: Vec<PathBuf>,
    /// Where the libraries of these programs are.
    pub(super) libraries: PathBuf,
    /// Where the extensions of iptables are.
    pub(super) extensions: PathBuf,
    /// Archives of images to begin with.
    pub(super) images: Vec<PathBuf>,
}

/// Makes a node's folder with everything that is in it before the node starts.
pub(super) fn write(state: &State, programs: &Programs, place: Place, images: Vec<PathBuf>) -> Result<PathBuf> {
    let folder = state.node(&place.name());
    for (own, _) in BINDS {
        fs::create_dir_all(folder.join(own))?;
    }
    fs::create_dir_all(folder.join("sysctl"))?;
    for (key, value) in SYSCTLS {
        fs::write(folder.join("sysctl").join(key.replace('/', ".")), format!("{value}\n"))?;
    }
    for plugin in PLUGINS {
        let file = programs.tool("usr/lib/cni").join(plugin);
        // A copy: whoever replaces it on the node must not replace it in the cache.
        fs::copy(&file, folder.join("cni-bin").join(plugin))
            .with_context(|| format!("cannot copy {}", file.display()))?;
    }
    fs::write(folder.join("resolv.conf"), "")?;
    fs::write(folder.join("containerd.toml"), include_str!("containerd.toml"))?;
    fs::write(folder.join("cni-conf/10-bridge.conflist"), network(place).to_string())?;
    fs::write(folder.join("kubelet.json"), kubelet(state, &folder, place).to_string())?;
    fs::write(folder.join("kube-proxy.json"), proxy(state, place).to_string())?;
    let (tools, libraries, extensions) = programs.tool_folders();
    let plan = Plan {
        name: place.name(),
        label: place.label(),
        address: place.address().to_string(),
        servers: programs.bin().to_owned(),
        pki: state.dir().join("pki"),
        programs: tools,
        libraries,
        extensions,
        images,
    };
    fs::write(folder.join("node.json"), plan.to_json().to_string())?;
    Ok(folder)
}

/// A list (CNI 0.4.0, the newest that this containerd speaks), so that another plugin can be chained behind the bridge.
fn network(place: Place) -> Value {
    json!({"cniVersion": "0.4.0", "name": "sotto-test", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": place.pods()}]], "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": true}}]})
}

fn kubelet(state: &State, folder: &Path, place: Place) -> Value {
    let pki = |file: String| state.pki(&file).display().to_string();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": place.address().to_string(),
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true, "cacheTTL": "10s"},
            "x509": {"clientCAFile": pki("ca.crt".into())}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki(format!("kubelet-{}.crt", place.name())),
        "tlsPrivateKeyFile": pki(format!("kubelet-{}.key", place.name())),
        "cgroupDriver": "cgroupfs", "enforceNodeAllocatable": ["pods"], "failSwapOn": false,
        "resolvConf": folder.join("resolv.conf").display().to_string(),
        "clusterDNS": ["10.96.0.10"], "clusterDomain": "cluster.local",
        "healthzBindAddress": "127.0.0.1", "readOnlyPort": 0, "nodeStatusUpdateFrequency": "4s",
        // Nothing can be pulled a second time.
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%"},
        "featureGates": {"BoundServiceAccountTokenVolume": true},
        "volumePluginDir": "/var/lib/kubelet/volume-plugins", "maxPods": 110,
    })
}

fn proxy(state: &State, place: Place) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": state.pki("kube-proxy.conf").display().to_string()},
        "mode": "iptables", "hostnameOverride": place.name(), "clusterCIDR": PODS,
        "healthzBindAddress": format!("{}:10256", place.address()), "metricsBindAddress": "127.0.0.1:10249",
        // Limits of connection tracking belong to the machine, not to a network namespace.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
    })
}

impl Plan {
    /// Reads it back.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("node.json");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::from_json(&serde_json::from_str(&text)?).with_context(|| format!("{} is incomplete", file.display()))
    }

    fn to_json(&self) -> Value {
        json!({"name": self.name, "label": self.label, "address": self.address, "servers": self.servers, "pki": self.pki,
            "programs": self.programs, "libraries": self.libraries, "extensions": self.extensions, "images": self.images})
    }

    fn from_json(plan: &Value) -> Option<Self> {
        let text = |field: &str| Some(plan[field].as_str()?.to_owned());
        let paths = |field: &str| {
            plan[field].as_array()?.iter().map(|path| Some(PathBuf::from(path.as_str()?))).collect::<Option<Vec<_>>>()
        };
        Some(Self {
            name: text("name")?,
            label: text("label")?,
            address: text("address")?,
            servers: text("servers")?.into(),
            pki: text("pki")?.into(),
            programs: paths("programs")?,
            libraries: text("libraries")?.into(),
            extensions: text("extensions")?.into(),
            images: paths("images")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let plan = Plan {
            name: "node1".into(),
            label: "sotto-k8s-1".into(),
            address: "10.95.0.11".into(),
            servers: "/bin".into(),
            pki: "/pki".into(),
            programs: vec!["/a".into(), "/b".into()],
            libraries: "/lib".into(),
            extensions: "/lib/xtables".into(),
            images: vec!["/images/a.tar".into()],
        };
        assert_eq!(Plan::from_json(&plan.to_json()), Some(plan));
        assert_eq!(Plan::from_json(&json!({"name": "node1"})), None);
    }
}
