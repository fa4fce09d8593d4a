//! What most tests start from: two nodes with their agents, a client on one, a server on the other.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use harness::{Agent, Mesh, Node, Pod, Site};

/// Two nodes, two agents, two pods in the namespace `demo`.
pub(crate) struct Pair {
    pub(crate) a: Node,
    pub(crate) b: Node,
    pub(crate) agent_a: Agent,
    pub(crate) agent_b: Agent,
    /// On node a.
    pub(crate) client: Pod,
    /// On node b.
    pub(crate) server: Pod,
    /// Last, so that the handles above are gone before the mesh is.
    pub(crate) mesh: Mesh,
}

impl Pair {
    /// Nobody belongs to the mesh yet.
    pub(crate) fn plain(test: &str) -> Option<Self> {
        Self::with_agent_argument(test, None)
    }

    /// Both pods belong to the mesh.
    pub(crate) fn enrolled(test: &str) -> Option<Self> {
        let pair = Self::plain(test)?;
        pair.enrol();
        Some(pair)
    }

    /// As [`Self::plain`], with agents that get one more argument.
    pub(crate) fn with_agent_argument(test: &str, argument: Option<(&str, &str)>) -> Option<Self> {
        let mesh = Mesh::new(test)?;
        let (a, b) = (mesh.node("a"), mesh.node("b"));
        let client = a.pod("client").start();
        let server = b.pod("server").start();
        let [agent_a, agent_b] = [&a, &b].map(|node| {
            let agent = node.agent();
            argument.into_iter().fold(agent, |agent, (name, value)| agent.arg(name, value)).spawn()
        });
        agent_a.wait_ready();
        agent_b.wait_ready();
        Some(Self { a, b, agent_a, agent_b, client, server, mesh })
    }

    /// Labels the namespace and waits until both agents have done what that asks for.
    pub(crate) fn enrol(&self) {
        self.mesh.namespace("demo").enrol();
        self.mesh.wait_enrolled(&[&self.client, &self.server]);
    }

    /// Takes the label away and waits.
    pub(crate) fn leave(&self) {
        self.mesh.namespace("demo").leave();
        self.mesh.wait_left(&[&self.client, &self.server]);
    }
}

/// Whether a connection failed as one that is refused or reset does; a reset that comes between two calls shows in odd ways.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    let kinds =
        [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset, ErrorKind::NotConnected, ErrorKind::BrokenPipe];
    kinds.contains(&error.kind())
}

/// Claims that a connection fails as one to a closed port does: refused, or reset; never a clean end, never data.
#[track_caller]
pub(crate) fn assert_fails(site: &Site, address: SocketAddr, deadline: Duration) {
    match site.try_connect(address, deadline) {
        Ok(conn) => conn.with_deadline(deadline).expect_reset(),
        Err(error) if is_refusal(&error) => {}
        Err(error) => panic!("{error} instead of a refusal at {address}"),
    }
}

/// Everything in a pod's namespace that redirection could have touched.
pub(crate) fn network_state(pod: &Pod) -> String {
    let netns = pod.netns();
    let mut state = vec![
        netns.output("ip", &["-4", "rule"]),
        netns.output("ip", &["-6", "rule"]),
        netns.output("ip", &["-4", "route", "show", "table", "all"]),
        netns.output("ip", &["-6", "route", "show", "table", "all"]),
        netns.output("tc", &["qdisc", "show", "dev", "lo"]),
        netns.output("tc", &["filter", "show", "dev", "lo", "ingress"]),
        netns.output("ip", &["-details", "link", "show", "dev", "lo"]),
    ];
    let sysctls = [
        "net/ipv4/tcp_fwmark_accept",
        "net/ipv4/fwmark_reflect",
        "net/ipv6/fwmark_reflect",
        "net/ipv4/tcp_tw_reuse",
        "net/ipv4/conf/lo/route_localnet",
        "net/ipv4/conf/all/rp_filter",
        "net/ipv4/conf/lo/rp_filter",
        "net/ipv4/conf/lo/accept_local",
    ];
    state.extend(sysctls.map(|key| format!("{key} = {}\n", netns.read_sysctl(key))));
    state.join("\n")
}

/// A number from the environment, for long runs by hand.
pub(crate) fn scaled(variable: &str, usual: usize) -> usize {
    std::env::var_os(variable)
        .and_then(|value| value.into_string().ok())
        .map_or(usual, |text| text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}
