//! `sotto standalone`: the node agent on a directory of manifests, with an authority in a directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::agent::{self, Parts};
use crate::control::authority::local::LocalAuthority;
use crate::drivers::certs::clock::Clock;
use crate::mesh::source::directory::manifests;

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
    agent::run(agent, Parts { authority: Arc::new(authority), cert_lifetime, source })
}
