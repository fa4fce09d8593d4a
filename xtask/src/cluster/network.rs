//! Names and addresses of a cluster: fixed, so that what belongs to it can be told from everything else on the machine.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::Task;

/// Joins the nodes with the control plane, in the machine's own network namespace.
pub(super) const BRIDGE: &str = "sotto-k8s";
/// The machine's address on the bridge: the API server listens there.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(10, 95, 0, 1);
/// Where Services get their addresses from.
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// The first of them is the Service `kubernetes`.
pub(super) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Where all pods get their addresses from.
pub(super) const PODS: &str = "10.244.0.0/16";
/// More nodes than this are refused: each takes a third of a gigabyte and an address.
pub(super) const MOST_NODES: u8 = 9;

/// One node's place in the network. Numbers begin with 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    number: u8,
}

impl Place {
    /// Of the nodes 1 to `count`.
    pub(super) fn all(count: u8) -> impl Iterator<Item = Self> {
        (1..=count).map(|number| Self { number })
    }

    /// The Node object's name.
    pub(super) fn name(self) -> String {
        format!("node{}", self.number)
    }

    /// The name of its network namespace, its cgroups and its end of the bridge.
    pub(super) fn label(self) -> String {
        format!("{BRIDGE}-{}", self.number)
    }

    /// Its address on the bridge.
    pub(super) fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 95, 0, 10 + self.number)
    }

    /// The range its pods get their addresses from.
    pub(super) fn pods(self) -> String {
        format!("10.244.{}.0/24", self.number)
    }
}

/// Runs `ip` with these words.
pub(super) fn ip(words: &str) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(words.split_whitespace());
    Task::new(format!("run `ip {words}`"), command).output()
}

/// Makes the bridge. It carries the state folder's name, so that two clusters cannot take it for their own.
pub(super) fn make_bridge(owner: &Path) -> Result<()> {
    let owner = owner.to_string_lossy();
    if let Some(other) = bridge_owner().filter(|owner| !owner.is_empty()) {
        ensure!(
            other == owner,
            "the bridge {BRIDGE} belongs to the cluster in {other:?}: take that one down first (`cargo xtask cluster down --state DIR`)"
        );
    }
    if bridge_owner().is_none() {
        ip(&format!("link add {BRIDGE} type bridge"))?;
    }
    let mut alias = Command::new("ip");
    alias.args(["link", "set", BRIDGE, "alias", &owner]);
    Task::new("name the bridge's owner", alias).output()?;
    ip(&format!("addr replace {HOST}/24 dev {BRIDGE}"))?;
    ip(&format!("link set {BRIDGE} up")).map(|_| ())
}

/// Removes the bridge, with the machine's routes over it, if it is this cluster's.
pub(super) fn remove_bridge(owner: &Path) -> Result<()> {
    match bridge_owner() {
        Some(found) if is_ours(Some(&found), owner) => ip(&format!("link del {BRIDGE}")).map(|_| ()),
        _ => Ok(()),
    }
}

/// Whether the nodes of the machine, whose names are the same in every cluster, are those of the cluster in `own`.
pub(super) fn is_ours(bridge_owner: Option<&str>, own: &Path) -> bool {
    // Without a bridge nobody's nodes work; one without an owner was left by a command that ended right after making it.
    bridge_owner.is_none_or(|owner| owner.is_empty() || owner == own.to_string_lossy())
}

/// The state folder of the cluster whose bridge is there.
pub(super) fn bridge_owner() -> Option<String> {
    let alias = Path::new("/sys/class/net").join(BRIDGE).join("ifalias");
    fs::read_to_string(alias).ok().map(|owner| owner.trim().to_owned())
}

/// Ports of 127.0.0.1 that nobody uses at the moment.
pub(super) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let bind = |_| TcpListener::bind((IpAddr::from(Ipv4Addr::LOCALHOST), 0)).context("cannot open a port on 127.0.0.1");
    // All are held until all are known: the kernel may give one out twice otherwise.
    let listeners = (0..count).map(bind).collect::<Result<Vec<_>>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_names_and_ranges_of_their_own() {
        let places: Vec<_> = Place::all(2).collect();
        assert_eq!(places[0].name(), "node1");
        assert_eq!(places[1].address(), Ipv4Addr::new(10, 95, 0, 12));
        assert_eq!(places[1].pods(), "10.244.2.0/24");
        // Linux cuts names of links at 15 bytes.
        assert!(places.iter().all(|place| place.label().len() <= 15));
    }

    #[test]
    fn nodes_of_another_cluster_are_left_alone() {
        let own = Path::new("/cache/cluster");
        assert!(!is_ours(Some("/elsewhere"), own));
        assert!(is_ours(Some("/cache/cluster"), own) && is_ours(Some(""), own) && is_ours(None, own));
    }

    #[test]
    fn free_ports_differ() {
        let mut ports = free_ports(5).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 5);
    }
}
