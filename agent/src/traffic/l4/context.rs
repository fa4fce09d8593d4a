//! What every connection of this agent needs: read-only, shared by all data-plane threads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::direct::ask::Asker;
use crate::drivers::redirect::Sockets;
use crate::drivers::tunnel::Config as TunnelConfig;
use crate::mesh::local::LocalPods;
use crate::mesh::source::state::MeshState;
use crate::mesh::upstream::attempts::Patience;
use crate::mesh::upstream::pool;
use crate::model::identity::TrustDomain;
use crate::model::view::MeshView;
use crate::telemetry::metrics::Metrics;

/// See the module.
#[derive(Debug)]
pub struct Context {
    /// This node's name in the mesh state.
    pub node: Arc<str>,
    /// The cluster's name in telemetry and baggage.
    pub cluster: Arc<str>,
    /// Whose identities are accepted.
    pub trust_domain: TrustDomain,
    /// The mesh as it is.
    pub mesh: watch::Receiver<Arc<MeshState>>,
    /// The enrolled pods of this node.
    pub local: watch::Receiver<Arc<LocalPods>>,
    /// The redirection's notes about sockets.
    pub sockets: Sockets,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// HTTP/2 settings and keepalive.
    pub tunnel: Arc<TunnelConfig>,
    /// Settings of the pods' tunnels to others.
    pub pool: pool::Config,
    /// Time limits of reaching an endpoint.
    pub patience: Patience,
    /// Time that a peer has for its TLS and HTTP/2 handshakes.
    pub handshake_limit: Duration,
    /// Asks whether two pods of this node may talk directly.
    pub direct: Asker,
}

impl Context {
    /// The mesh as it is at this moment.
    #[must_use]
    pub fn view(&self) -> Arc<MeshView> {
        Arc::clone(&self.mesh.borrow().view)
    }
}
