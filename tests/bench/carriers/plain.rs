//! No mesh: what the kernel alone carries, between two nodes and on one.

use anyhow::Result;

use super::contestant::{self, Contestant};
use crate::pair::Pair;
use crate::usage::Processes;

/// Two pods and nothing between them.
#[derive(Debug)]
pub(super) struct Plain {
    local: bool,
    pair: Pair,
    _mesh: harness::Mesh,
}

impl Plain {
    pub(super) fn set_up(local: bool) -> Result<Self> {
        let mesh = contestant::mesh()?;
        let (a, b) = (mesh.node("a"), mesh.node("b"));
        let client = a.pod("client").start();
        let server = if local { a.pod("server").start() } else { b.pod("server").start() };
        Ok(Self { local, pair: Pair::new(&mesh, client, server)?, _mesh: mesh })
    }
}

impl Contestant for Plain {
    fn name(&self) -> &'static str {
        if self.local { "plain-local" } else { "plain" }
    }

    fn pair(&self) -> &Pair {
        &self.pair
    }

    fn start(&mut self) -> Result<()> {
        Ok(())
    }

    fn processes(&self) -> Processes {
        Processes::default()
    }

    fn stop(&mut self) {}
}
