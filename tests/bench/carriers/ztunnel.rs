//! A stock ztunnel beside each pod, where `ZTUNNEL_BIN` names one.

use anyhow::{Result, ensure};
use harness::{Mesh, Ztunnel, ZtunnelProgram};

use super::Contestant;
use crate::output::Record;
use crate::pair::Pair;
use crate::usage::Processes;

/// Two ztunnels with two workers each, as they come.
#[derive(Debug)]
pub(super) struct ZtunnelPair {
    program: ZtunnelProgram,
    pair: Pair,
    running: Vec<Ztunnel>,
    mesh: Mesh,
}

impl ZtunnelPair {
    /// `None`, with a note, where none is named.
    pub(super) fn set_up(record: &mut Record) -> Result<Option<Self>> {
        let Some(program) = ZtunnelProgram::find("bench") else {
            record.note("ztunnel is left out: ZTUNNEL_BIN names none");
            return Ok(None);
        };
        let mesh = super::mesh()?;
        program.share_authority(&mesh);
        let (a, b) = (mesh.node("a"), mesh.node("b"));
        let (client, server) = (a.pod("client").start(), b.pod("server").start());
        let pair = Pair::new(&mesh, client, server)?;
        Ok(Some(Self { program, pair, running: Vec::new(), mesh }))
    }
}

impl Contestant for ZtunnelPair {
    fn name(&self) -> &'static str {
        "ztunnel"
    }

    fn pair(&self) -> &Pair {
        &self.pair
    }

    fn start(&mut self) -> Result<()> {
        let pods = [&self.pair.client, &self.pair.server];
        self.running = pods.iter().map(|pod| self.program.start(&self.mesh, pod, &pods, &[])).collect();
        Ok(())
    }

    fn processes(&self) -> Processes {
        let mut pids = self.running.iter().map(Ztunnel::pid);
        Processes { a: pids.next().into_iter().collect(), b: pids.collect() }
    }

    fn stop(&mut self) {
        for ztunnel in self.running.drain(..) {
            ztunnel.kill();
        }
    }

    fn prove(&self) -> Result<()> {
        for ztunnel in &self.running {
            let mutual = ztunnel.metrics().sum("istio_tcp_connections_opened_total", &[("connection_security_policy", "mutual_tls")]);
            ensure!(mutual > 0.0, "a ztunnel has carried nothing in mutual TLS:\n{}", ztunnel.log());
        }
        Ok(())
    }
}
