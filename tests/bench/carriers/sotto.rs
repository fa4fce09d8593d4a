//! sotto: between two nodes with the tunnel that its agents agree on, with HBONE, without a log, and on one node.

use std::process::Command;

use anyhow::{Result, ensure};
use harness::{Agent, Mesh, Node, Pod};

use super::contestant::{self, Change, Contestant};
use crate::output::Record;
use crate::pair::Pair;
use crate::usage::Processes;

/// How traffic is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Between nodes, as the agents agree.
    Default,
    /// Between nodes, HBONE.
    H2,
    /// Between nodes, as the agents agree, without telling of connections in log and metrics.
    Quiet,
    /// On one node, as the agent does it by itself.
    SameNode,
}

/// The flag of the agent that keeps to HBONE, and its value.
const KEEP_TO_H2: (&str, &str) = ("--tunnel-protocol", "h2");

/// Everything but the access log, which is told at the end of each connection.
const QUIET: &str = "info,access=off";

/// Two agents, and pods on their nodes.
#[derive(Debug)]
pub(super) struct Sotto {
    way: Way,
    pair: Pair,
    nodes: Vec<Node>,
    agents: Vec<Agent>,
    /// Pods that are there to be many.
    crowd: Vec<Pod>,
    mesh: Mesh,
}

impl Sotto {
    /// `None`, with a note, where the agent has no such way.
    pub(super) fn set_up(way: Way, record: &mut Record) -> Result<Option<Self>> {
        if way == Way::H2 && !agent_knows(KEEP_TO_H2.0)? {
            record.note(format_args!(
                "sotto-h2 is left out: the agent has no {}, so `sotto` is HBONE already",
                KEEP_TO_H2.0
            ));
            return Ok(None);
        }
        let mesh = contestant::mesh()?;
        let (a, b) = (mesh.node("a"), mesh.node("b"));
        let client = a.pod("client").start();
        let server = if way == Way::SameNode { a.pod("server").start() } else { b.pod("server").start() };
        let nodes = if way == Way::SameNode { vec![a] } else { vec![a, b] };
        Ok(Some(Self {
            way,
            pair: Pair::new(&mesh, client, server)?,
            nodes,
            agents: Vec::new(),
            crowd: Vec::new(),
            mesh,
        }))
    }

    fn run(&mut self) {
        self.agents = self.nodes.iter().map(|node| self.agent(node)).collect();
        self.agents.iter().for_each(Agent::wait_ready);
    }

    fn agent(&self, node: &Node) -> Agent {
        match self.way {
            Way::H2 => node.agent().arg(KEEP_TO_H2.0, KEEP_TO_H2.1).spawn(),
            Way::Quiet => node.agent().arg("--log", QUIET).arg("--metrics-series", "0").spawn(),
            Way::Default | Way::SameNode => node.agent().spawn(),
        }
    }

    fn pods(&self) -> [&Pod; 2] {
        [&self.pair.client, &self.pair.server]
    }
}

impl Contestant for Sotto {
    fn name(&self) -> &'static str {
        match self.way {
            Way::Default => "sotto",
            Way::H2 => "sotto-h2",
            Way::Quiet => "sotto-quiet",
            Way::SameNode => "sotto-local",
        }
    }

    fn pair(&self) -> &Pair {
        &self.pair
    }

    fn start(&mut self) -> Result<()> {
        self.mesh.namespace("demo").enrol();
        self.run();
        self.mesh.wait_enrolled(&self.pods());
        Ok(())
    }

    fn processes(&self) -> Processes {
        let mut pids = self.agents.iter().map(Agent::pid);
        Processes { a: pids.next().into_iter().collect(), b: pids.collect() }
    }

    fn stop(&mut self) {
        for agent in self.agents.drain(..) {
            agent.terminate();
        }
        self.crowd.drain(..).for_each(|pod| pod.opt_out());
    }

    fn prove(&self) -> Result<()> {
        if self.way == Way::Quiet {
            let dials = self.agents[0].metrics().sum("sotto_tunnel_dials_total", &[]);
            ensure!(dials > 0.0, "the client's agent has made no tunnel");
            return Ok(());
        }
        let principal = self.pair.server.identity();
        let security = if self.way == Way::SameNode { "unknown" } else { "mutual_tls" };
        let labels = [("destination_principal", &*principal), ("connection_security_policy", security)];
        for agent in &self.agents {
            let opened = agent.metrics().sum("istio_tcp_connections_opened_total", &labels);
            ensure!(opened > 0.0, "the agent of {} has counted no connection to {principal}, {security}", agent.node());
        }
        Ok(())
    }

    fn before_joining(&mut self) -> Result<bool> {
        self.mesh.namespace("demo").leave();
        self.run();
        self.mesh.wait_left(&self.pods());
        Ok(self.way == Way::Default)
    }

    fn change(&mut self, change: Change) -> Result<u32> {
        let namespace = self.mesh.namespace("demo");
        match change {
            Change::Join => {
                namespace.enrol();
                self.mesh.wait_enrolled(&self.pods());
            }
            // As a node's agent ends on Kubernetes: the capture stays in force until the next one is there.
            Change::Upgrade => {
                for agent in self.agents.drain(..) {
                    agent.kill();
                }
                self.run();
                self.mesh.wait_enrolled(&self.pods());
            }
            Change::Leave => {
                namespace.leave();
                self.mesh.wait_left(&self.pods());
            }
        }
        Ok(0)
    }

    fn memory_with(&mut self, pods: usize) -> Result<Option<u64>> {
        if self.way != Way::Default {
            return Ok(None);
        }
        if self.agents.is_empty() {
            self.start()?;
        }
        let node = self.nodes.last().expect("there are two");
        // The server is one of them.
        while self.crowd.len() + 1 < pods {
            self.crowd.push(node.pod(&format!("crowd-{}", self.crowd.len())).start());
        }
        self.mesh.wait_enrolled(&self.crowd.iter().collect::<Vec<_>>());
        Processes::memory(&self.processes().b).map(Some)
    }
}

/// Whether the program has a flag.
fn agent_knows(flag: &str) -> Result<bool> {
    let program = std::env::var_os("SOTTO_BIN").unwrap_or_else(|| "sotto".into());
    let help = Command::new(program).args(["standalone", "--help"]).output()?;
    Ok(String::from_utf8_lossy(&help.stdout).contains(flag))
}
