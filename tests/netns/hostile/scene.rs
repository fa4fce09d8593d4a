//! A server's pod with an intruder beside it, and what has to be true once the intruder is gone.

use std::net::SocketAddr;

use harness::Server;

use super::intruder::{Intruder, Protocol, Tls};
use super::usage::Usage;
use crate::fixture::Pair;

const HBONE: u16 = 15008;

/// What a crowd of hostile peers may cost an agent for good, in KiB.
pub(crate) const MEMORY_BOUND: usize = 96 * 1024;

pub(crate) struct Scene {
    pub(crate) pair: Pair,
    pub(crate) intruder: Intruder,
    pub(crate) echo: Server,
    pub(crate) before: Usage,
}

impl Scene {
    pub(crate) fn new(test: &str) -> Option<Self> {
        Pair::enrolled(test).map(Self::of)
    }

    /// As [`Self::new`], with agents that speak this among themselves.
    pub(crate) fn speaking(test: &str, protocol: Protocol) -> Option<Self> {
        let argument = (protocol == Protocol::Hbone).then_some(("--tunnel-protocol", "h2"));
        let pair = Pair::with_agent_argument(test, argument)?;
        pair.enrol();
        Some(Self::of(pair))
    }

    fn of(pair: Pair) -> Self {
        let intruder = Intruder::new(&pair.mesh, "intruder");
        let echo = pair.server.serve_echo(8080);
        pair.client.connect(pair.server.addr(8080)).exchange("hello");
        let before = Usage::of(&pair.agent_b);
        Self { pair, intruder, echo, before }
    }

    pub(crate) fn target(&self) -> SocketAddr {
        self.pair.server.addr(HBONE)
    }

    pub(crate) fn member(&self, protocol: Protocol) -> Tls {
        self.intruder.member(self.target(), protocol)
    }

    pub(crate) fn application(&self) -> String {
        self.pair.server.addr(8080).to_string()
    }

    pub(crate) fn refused(&self, limit: &str) -> f64 {
        self.pair.agent_b.metrics().sum("sotto_refused_total", &[("limit", limit)])
    }

    /// Targets that no tunnel to the server may lead to, beside another pod's: the agent's own ports, loopback, names, and what is
    /// no target at all.
    pub(crate) fn forbidden(&self) -> Vec<String> {
        let own = |port: u16| self.pair.server.addr(port).to_string();
        let bad = ["server.demo.svc.cluster.local:8080", "server", "10.201.2.2:99999", "10.201.2.2:", "[::1", ""];
        let targets = [own(15001), own(15006), own(15008), "127.0.0.1:8080".to_owned()];
        targets.into_iter().chain(bad.map(str::to_owned)).collect()
    }

    /// The agent takes in no more than this above what it had.
    #[track_caller]
    pub(crate) fn assert_bounded(&self, what: &str) {
        let now = Usage::of(&self.pair.agent_b);
        assert!(now.memory <= self.before.memory + MEMORY_BOUND, "{what}: {:?} -> {now:?}", self.before);
    }

    /// Good connections work, the agent has said who it was, and holds nothing any more.
    #[track_caller]
    pub(crate) fn assert_contained(&self) {
        self.pair.client.connect(self.pair.server.addr(8080)).exchange("hello");
        let address = format!("peer={}", self.intruder.site.ip());
        self.pair.agent_b.wait_log("who it was", |line| line.contains("WARN") && line.contains(&address));
        let after = self.before.wait_back(&self.pair.agent_b, 2);
        assert!(after.memory <= self.before.memory + MEMORY_BOUND, "{:?} -> {after:?}", self.before);
        let warnings = self.pair.agent_b.log().lines().filter(|line| line.contains("WARN")).count();
        assert!(warnings < 60, "{warnings} warnings: the log was flooded");
    }
}
