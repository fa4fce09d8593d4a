//! A stock ztunnel on each node, where `ZTUNNEL_BIN` names one: shared mode, two workers, iptables and access log as Istio has them.

use anyhow::{Result, ensure};
use harness::{Mesh, Node, NodeZtunnel, Pod, ZtunnelProgram};

use super::contestant::{self, Change, Contestant};
use crate::output::Record;
use crate::pair::Pair;
use crate::usage::Processes;

/// Two nodes with a ztunnel each.
#[derive(Debug)]
pub(super) struct Ztunnels {
    program: ZtunnelProgram,
    pair: Pair,
    nodes: [Node; 2],
    running: Vec<NodeZtunnel>,
    /// Pods that are there to be many.
    crowd: Vec<Pod>,
    mesh: Mesh,
}

impl Ztunnels {
    /// `None`, with a note, where none is named.
    pub(super) fn set_up(record: &mut Record) -> Result<Option<Self>> {
        let Some(program) = ZtunnelProgram::find("bench") else {
            record.note("ztunnel is left out: ZTUNNEL_BIN names none");
            return Ok(None);
        };
        let mesh = contestant::mesh()?;
        program.share_authority(&mesh);
        let nodes = [mesh.node("a"), mesh.node("b")];
        let (client, server) = (nodes[0].pod("client").start(), nodes[1].pod("server").start());
        let pair = Pair::new(&mesh, client, server)?;
        Ok(Some(Self { program, pair, nodes, running: Vec::new(), crowd: Vec::new(), mesh }))
    }

    fn run(&self) -> Vec<NodeZtunnel> {
        let pods = self.pods();
        self.nodes.iter().map(|node| self.program.start_on_node(&self.mesh, node, &pods)).collect()
    }

    fn pods(&self) -> [&Pod; 2] {
        [&self.pair.client, &self.pair.server]
    }

    fn join(&self) {
        self.running.iter().zip(self.pods()).for_each(|(ztunnel, pod)| ztunnel.add(pod));
    }
}

impl Contestant for Ztunnels {
    fn name(&self) -> &'static str {
        "ztunnel"
    }

    fn pair(&self) -> &Pair {
        &self.pair
    }

    fn start(&mut self) -> Result<()> {
        self.running = self.run();
        self.join();
        Ok(())
    }

    fn processes(&self) -> Processes {
        let mut pids = self.running.iter().map(NodeZtunnel::pid);
        Processes { a: pids.next().into_iter().collect(), b: pids.collect() }
    }

    fn stop(&mut self) {
        for ztunnel in self.running.drain(..) {
            ztunnel.kill();
        }
    }

    fn prove(&self) -> Result<()> {
        let policy = [("connection_security_policy", "mutual_tls")];
        for ztunnel in &self.running {
            let mutual = ztunnel.metrics().sum("istio_tcp_connections_opened_total", &policy);
            ensure!(mutual > 0.0, "a ztunnel has carried nothing in mutual TLS:\n{}", ztunnel.log());
        }
        Ok(())
    }

    fn before_joining(&mut self) -> Result<bool> {
        // They take the rules away, which a turn before has left.
        self.start()?;
        self.running.iter().zip(self.pods()).for_each(|(ztunnel, pod)| ztunnel.remove(pod));
        Ok(true)
    }

    fn change(&mut self, change: Change) -> Result<u32> {
        match change {
            Change::Join => self.join(),
            Change::Upgrade => {
                let next = self.run();
                next.iter().zip(self.pods()).for_each(|(ztunnel, pod)| ztunnel.adopt(pod));
                for old in std::mem::replace(&mut self.running, next) {
                    old.terminate();
                }
            }
            Change::Leave => self.running.iter().zip(self.pods()).for_each(|(ztunnel, pod)| ztunnel.remove(pod)),
        }
        Ok(0)
    }

    fn memory_with(&mut self, pods: usize) -> Result<Option<u64>> {
        // It reads what pods there are when it starts.
        self.stop();
        while self.crowd.len() + 1 < pods {
            self.crowd.push(self.nodes[1].pod(&format!("crowd-{}", self.crowd.len())).start());
        }
        let all: Vec<&Pod> = self.pods().into_iter().chain(&self.crowd).collect();
        let running = self.program.start_on_node(&self.mesh, &self.nodes[1], &all);
        all[1..].iter().for_each(|pod| running.add(pod));
        let memory = Processes::memory(&[running.pid()])?;
        self.running.push(running);
        Ok(Some(memory))
    }
}
