//! A client and a server for one contestant, with what serves the load.

use std::sync::Arc;

use anyhow::Result;
use harness::{Mesh, Pod, Process};

use crate::load::{bulk, http};

/// Two pods, and the servers in one of them.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) client: Pod,
    pub(crate) server: Pod,
    nginx: Arc<Process>,
    _iperf: Arc<Process>,
}

impl Pair {
    /// Starts the servers.
    pub(crate) fn new(mesh: &Mesh, client: Pod, server: Pod) -> Result<Self> {
        Ok(Self { nginx: http::serve(mesh, &server)?, _iperf: bulk::serve(mesh, &server)?, client, server })
    }

    /// Ends nginx and starts it anew, as a restart of the pod does.
    pub(crate) fn restart_application(&mut self, mesh: &Mesh) -> Result<()> {
        self.nginx.kill();
        self.nginx = http::serve(mesh, &self.server)?;
        Ok(())
    }
}
