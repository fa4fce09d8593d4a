//! `sotto standalone`: the node agent on a directory of manifests, with an authority in a directory or a cluster's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::agent::{self, Parts};
use crate::control::authority::local::LocalAuthority;
use crate::control::authority::remote::{self, RemoteAuthority};
use crate::drivers::certs::authority::Authority;
use crate::drivers::certs::clock::Clock;
use crate::mesh::source::directory::manifests;

/// What the role runs with.
#[derive(Debug)]
pub struct Config {
    /// The directory of Kubernetes manifests.
    pub manifests: PathBuf,
    /// The namespace whose policies are for the whole mesh.
    pub root_namespace: Arc<str>,
    /// Who signs certificates.
    pub authority: AuthorityConfig,
    /// How long certificates are valid.
    pub cert_lifetime: Duration,
    /// What every node role has.
    pub agent: agent::Config,
}

/// Where the certificate authority is.
#[derive(Debug)]
pub enum AuthorityConfig {
    /// In this process, with its files in a directory.
    Directory(PathBuf),
    /// Somewhere in the network.
    Remote(remote::Config),
}

/// Runs until a signal ends it.
///
/// # Errors
/// When the agent cannot start, or cannot clean up behind itself.
pub fn run(config: Config) -> anyhow::Result<()> {
    let Config { manifests: directory, root_namespace, authority, cert_lifetime, agent } = config;
    let authority: Arc<dyn Authority> = match authority {
        AuthorityConfig::Directory(directory) => Arc::new(
            LocalAuthority::open(&directory, &agent.trust_domain, Clock::system())
                .with_context(|| format!("the certificate authority in {}", directory.display()))?,
        ),
        AuthorityConfig::Remote(config) => Arc::new(RemoteAuthority::new(config)),
    };
    let source = manifests::Config { directory, trust_domain: agent.trust_domain.clone(), root_namespace };
    agent::run(agent, Parts { authority, cert_lifetime, source })
}
