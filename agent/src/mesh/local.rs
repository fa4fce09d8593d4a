//! The pods of this node that the agent carries.

use std::collections::HashMap;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::drivers::certs::store::IdentityHandle;
use crate::drivers::certs::tls::config::{ServerConfig, server_config};
use crate::drivers::tunnel::mux;
use crate::model::identity::Identity;
use crate::model::workload::ObjectName;
use crate::runtime::budget::Share;
use crate::runtime::drain::Drain;
use crate::sys::netns::Netns;

/// What the two ends of a tunnel may speak (ALPN), the preferred one first.
pub const TUNNEL_PROTOCOLS: &[&[u8]] = &[mux::PROTOCOL, HBONE];

/// HBONE alone.
pub const HBONE_ONLY: &[&[u8]] = &[HBONE];

const HBONE: &[u8] = b"h2";

/// An enrolled pod of this node. It lives as long as a connection of it does, so that a pod can leave the mesh while its
/// connections go on.
#[derive(Debug)]
pub struct LocalPod {
    /// Namespace and name.
    pub name: ObjectName,
    /// The pod's UID.
    pub uid: Arc<str>,
    /// The pod's addresses in canonical form.
    pub ips: Vec<IpAddr>,
    /// Whom its certificate names.
    pub identity: Identity,
    /// Its certificate, rotated while it lives.
    pub credentials: IdentityHandle,
    /// Begins when the pod leaves the mesh, ends when its connections have to.
    pub drain: Drain,
    /// How its HBONE listener authenticates.
    pub server: Arc<ServerConfig>,
    /// What its connections may take.
    pub shares: Shares,
    netns: Arc<Netns>,
    retired: mpsc::UnboundedSender<Arc<Netns>>,
}

/// A pod's shares of what the agent has for all its pods.
#[derive(Clone, Debug)]
pub struct Shares {
    /// Of the file descriptors.
    pub descriptors: Arc<Share>,
    /// Of the memory for what waits to be read by an application, in bytes.
    pub memory: Arc<Share>,
}

/// The listeners of one pod on one data-plane thread.
#[derive(Debug)]
pub struct Listeners {
    /// Connections that the pod makes.
    pub outbound: TcpListener,
    /// Connections to the pod in clear text.
    pub plaintext: TcpListener,
    /// Tunnels to the pod.
    pub hbone: TcpListener,
}

/// The enrolled pods of this node by address.
pub type LocalPods = HashMap<IpAddr, Arc<LocalPod>>;

/// What a pod is made from.
#[derive(Debug)]
pub struct PodParts {
    /// See [`LocalPod::name`].
    pub name: ObjectName,
    /// See [`LocalPod::uid`].
    pub uid: Arc<str>,
    /// See [`LocalPod::ips`].
    pub ips: Vec<IpAddr>,
    /// See [`LocalPod::identity`].
    pub identity: Identity,
    /// See [`LocalPod::credentials`].
    pub credentials: IdentityHandle,
    /// The pod's network namespace.
    pub netns: Arc<Netns>,
    /// See [`LocalPod::shares`].
    pub shares: Shares,
}

impl LocalPod {
    /// A pod whose namespace is sent to `retired` once its last connection has ended.
    #[must_use]
    pub fn new(parts: PodParts, drain: Drain, retired: mpsc::UnboundedSender<Arc<Netns>>) -> Self {
        let PodParts { name, uid, ips, identity, credentials, netns, shares } = parts;
        let server = server_config(&credentials, TUNNEL_PROTOCOLS);
        Self { name, uid, ips, identity, credentials, drain, server, shares, netns, retired }
    }

    /// The pod's network namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The same, to keep it longer than the pod is carried.
    #[must_use]
    pub fn share_netns(&self) -> Arc<Netns> {
        Arc::clone(&self.netns)
    }

    /// The pod's address of the same family as `like`.
    #[must_use]
    pub fn ip_like(&self, like: IpAddr) -> Option<IpAddr> {
        self.ips.iter().copied().find(|ip| ip.is_ipv4() == like.is_ipv4())
    }
}

impl Drop for LocalPod {
    fn drop(&mut self) {
        // Without a receiver the process is ending, and its sockets with it.
        let _ending = self.retired.send(Arc::clone(&self.netns));
    }
}
