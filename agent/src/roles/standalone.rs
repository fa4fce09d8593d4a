//! `sotto standalone`: the node agent on a directory of manifests, with an authority in a directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::FutureExt;

use super::agent::{self, Follow, Parts};
use crate::control::authority::local::LocalAuthority;
use crate::control::enroll::locate::annotation::ByAnnotation;
use crate::drivers::certs::clock::Clock;
use crate::mesh::source::directory::manifests::{self, Manifests};
use crate::mesh::source::directory::watch;
use crate::mesh::source::state::MeshState;

/// What the role runs with.
#[derive(Debug)]
pub struct Config {
    /// The directory of Kubernetes manifests.
    pub manifests: PathBuf,
    /// The namespace whose policies are for the whole mesh.
    pub root_namespace: Arc<str>,
    /// The directory of the certificate authority.
    pub ca_dir: PathBuf,
    /// How long certificates are valid.
    pub cert_lifetime: Duration,
    /// What every node role has.
    pub agent: agent::Config,
}

/// Runs until a signal ends it.
///
/// # Errors
/// When the agent cannot start, or cannot clean up behind itself.
pub fn run(config: Config) -> anyhow::Result<()> {
    let Config { manifests: directory, root_namespace, ca_dir, cert_lifetime, agent } = config;
    let authority = LocalAuthority::open(&ca_dir, &agent.trust_domain, Clock::system())
        .with_context(|| format!("the certificate authority in {}", ca_dir.display()))?;
    let source = manifests::Config { directory, trust_domain: agent.trust_domain.clone(), root_namespace };
    let parts = Parts {
        authority: Arc::new(authority),
        cert_lifetime,
        source: Box::new(move |_| open(source)),
        locate: Box::new(ByAnnotation),
        announce: None,
    };
    agent::run(agent, std::future::ready(Ok(parts)))
}

fn open(config: manifests::Config) -> anyhow::Result<(Arc<MeshState>, Follow)> {
    let manifests = Manifests::load(config)?;
    let state = manifests.state();
    let follow: Follow =
        Box::new(move |sender, stop| async move { watch::run(manifests, sender, stop.cancelled()).await }.boxed());
    Ok((state, follow))
}
