//! A node: a network namespace on the underlay, with routes to the pods of all nodes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::json;

use crate::agent::{Agent, AgentBuilder};
use crate::mesh::{Joined, Shared, lock};
use crate::netns::Netns;
use crate::pod::PodBuilder;
use crate::traffic::Site;
use crate::wire::Capture;

/// A node of the mesh.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) shared: Arc<Shared>,
    netns: Arc<Netns>,
    site: Site,
    number: u8,
    last_pod: Arc<AtomicU16>,
}

impl Node {
    pub(crate) fn join(shared: &Arc<Shared>, name: &str) -> Self {
        let number = lock(&shared.joined).iter().filter(|j| j.node.is_some()).count() + 1;
        let number = u8::try_from(number).ok().filter(|n| *n < 100).expect("less than 100 nodes");
        let netns = shared.create_netns(name);
        for sysctl in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            netns.sysctl(sysctl, "1");
        }
        plug_in(shared, &netns, number);
        let joined = Joined { netns: Arc::clone(&netns), node: Some(number) };
        for other in lock(&shared.joined).iter() {
            // Both ways: the others learn of this node's pods, and this node of theirs.
            other.netns.ip(&routes_to_pods_of(number));
            if let Some(their_number) = other.node {
                netns.ip(&routes_to_pods_of(their_number));
            }
        }
        lock(&shared.joined).push(joined);
        let site = Site::new(name, Arc::clone(&netns), Arc::clone(&shared.servers));
        let node = Self { shared: Arc::clone(shared), netns, site, number, last_pod: Arc::new(AtomicU16::new(1)) };
        node.write_manifest();
        node
    }

    /// Its name in Kubernetes: unique on this machine, as agents of several meshes share one file system.
    #[must_use]
    pub fn name(&self) -> &str {
        self.netns.name()
    }

    /// Its address on the underlay.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        Ipv4Addr::new(10, 200, 0, self.number).into()
    }

    /// Begins a pod on this node.
    pub fn pod(&self, name: &str) -> PodBuilder {
        PodBuilder::new(self, name)
    }

    /// Starts the agent and waits until it is ready.
    #[track_caller]
    pub fn start_agent(&self) -> Agent {
        self.agent().start()
    }

    /// Begins an agent with more arguments.
    pub fn agent(&self) -> AgentBuilder {
        AgentBuilder::new(self)
    }

    /// Captures what crosses this node's uplink.
    #[must_use]
    pub fn capture(&self) -> Capture {
        self.shared.capture(&self.netns, "eth0")
    }

    /// Addresses in this node's pod range (IPv4) that take packets and never answer.
    #[must_use]
    pub fn black_hole(&self) -> IpAddr {
        let address = self.next_pod_addresses().0;
        self.netns.ip(&format!("route add blackhole {address}"));
        address
    }

    /// An address in this node's pod range (IPv4) that nobody has: whoever dials it is told so.
    #[must_use]
    pub fn unused_address(&self) -> IpAddr {
        self.next_pod_addresses().0
    }

    /// Where pods of this node send what leaves them.
    pub(crate) fn gateways(&self) -> (IpAddr, IpAddr) {
        self.pod_addresses(1)
    }

    pub(crate) fn next_pod_addresses(&self) -> (IpAddr, IpAddr) {
        let number =
            self.last_pod.fetch_add(1, Ordering::Relaxed).checked_add(1).expect("less than 65,535 pods on a node");
        self.pod_addresses(number)
    }

    /// 10.201.NODE.1 and so on; after 254 of them 10.(100 + NODE).1.0 and so on.
    fn pod_addresses(&self, number: u16) -> (IpAddr, IpAddr) {
        let v4 = match number.to_be_bytes() {
            [0, low] if low < 255 => Ipv4Addr::new(10, 201, self.number, low),
            [high, low] => Ipv4Addr::new(10, 100 + self.number, high, low),
        };
        let v6 = Ipv6Addr::new(0xfd00, 0x201, self.number.into(), 0, 0, 0, 0, number);
        (v4.into(), v6.into())
    }

    fn write_manifest(&self) {
        self.shared.manifests.apply(&json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.name(),
                "labels": {
                    "kubernetes.io/hostname": self.name(),
                    "topology.kubernetes.io/region": "here",
                    "topology.kubernetes.io/zone": format!("here-{}", self.number),
                },
            },
            "status": {
                "addresses": [{ "type": "InternalIP", "address": self.ip() }],
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        }));
    }
}

impl Deref for Node {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.site.fmt(f)
    }
}

/// Joins a namespace to the underlay with the addresses 10.200.0.N and fd00:200::N.
pub(crate) fn plug_in(shared: &Shared, netns: &Netns, number: u8) {
    shared.underlay().ip(&format!(
        "link add p{number} type veth peer name eth0 netns {}\n\
         link set p{number} master br0 up",
        netns.name()
    ));
    netns.ip(&format!(
        "link set eth0 up\n\
         addr add 10.200.0.{number}/24 dev eth0\n\
         addr add fd00:200::{number:x}/64 dev eth0 nodad\n\
         neigh add 10.200.0.253 lladdr 02:00:00:00:00:fd dev eth0"
    ));
}

pub(crate) fn routes_to_pods_of(node: u8) -> String {
    let more = 100 + node;
    format!(
        "route add 10.201.{node}.0/24 via 10.200.0.{node}\n\
         route add 10.{more}.0.0/16 via 10.200.0.{node}\n\
         route add fd00:201:{node:x}::/64 via fd00:200::{node:x}"
    )
}
