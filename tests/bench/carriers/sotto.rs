//! sotto: between two nodes with the tunnel that its agents agree on, with HBONE, and on one node.

use std::process::Command;

use anyhow::{Result, ensure};
use harness::{Agent, Mesh, Node};

use super::Contestant;
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
    /// On one node, as the agent does it by itself.
    SameNode,
}

/// The flag of the agent that keeps to HBONE, and its value.
const KEEP_TO_H2: (&str, &str) = ("--tunnel-protocol", "h2");

/// Two agents, and pods on their nodes.
#[derive(Debug)]
pub(super) struct Sotto {
    way: Way,
    pair: Pair,
    nodes: Vec<Node>,
    agents: Vec<Agent>,
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
        let mesh = super::mesh()?;
        let (a, b) = (mesh.node("a"), mesh.node("b"));
        let client = a.pod("client").start();
        let server = if way == Way::SameNode { a.pod("server").start() } else { b.pod("server").start() };
        let nodes = if way == Way::SameNode { vec![a] } else { vec![a, b] };
        mesh.namespace("demo").enrol();
        Ok(Some(Self { way, pair: Pair::new(&mesh, client, server)?, nodes, agents: Vec::new(), mesh }))
    }
}

impl Contestant for Sotto {
    fn name(&self) -> &'static str {
        match self.way {
            Way::Default => "sotto",
            Way::H2 => "sotto-h2",
            Way::SameNode => "sotto-local",
        }
    }

    fn pair(&self) -> &Pair {
        &self.pair
    }

    fn start(&mut self) -> Result<()> {
        let agent = |node: &Node| match self.way {
            Way::H2 => node.agent().arg("--drain", "1s").arg(KEEP_TO_H2.0, KEEP_TO_H2.1).spawn(),
            Way::Default | Way::SameNode => node.agent().arg("--drain", "1s").spawn(),
        };
        self.agents = self.nodes.iter().map(agent).collect();
        self.agents.iter().for_each(Agent::wait_ready);
        self.mesh.wait_enrolled(&[&self.pair.client, &self.pair.server]);
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
    }

    fn prove(&self) -> Result<()> {
        let server = self.pair.server.identity();
        for agent in &self.agents {
            let log = agent.access_log();
            let entry = log.iter().rev().find(|entry| entry.destination_identity() == server);
            ensure!(entry.is_some(), "the agent of {} has logged no connection to {server}", agent.node());
        }
        Ok(())
    }
}

/// Whether the program has a flag.
fn agent_knows(flag: &str) -> Result<bool> {
    let program = std::env::var_os("SOTTO_BIN").unwrap_or_else(|| "sotto".into());
    let help = Command::new(program).args(["standalone", "--help"]).output()?;
    Ok(String::from_utf8_lossy(&help.stdout).contains(flag))
}
