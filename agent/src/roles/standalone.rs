//! `sotto standalone`: the node agent on a directory of manifests, with an authority in a directory or a cluster's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;

use super::agent::{self, Follow, OnExit, Parts};
use super::authority::{self, AuthorityChoice};
use crate::control::enroll::locate::annotation::ByAnnotation;
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
    /// Who signs certificates.
    pub authority: AuthorityChoice,
    /// How long certificates are valid.
    pub cert_lifetime: Duration,
    /// What becomes of the capture when a signal ends the agent.
    pub on_exit: OnExit,
    /// What every node role has.
    pub agent: agent::Config,
}

/// Runs until a signal ends it.
///
/// # Errors
/// When the agent cannot start, or cannot clean up behind itself.
pub fn run(config: Config) -> anyhow::Result<()> {
    let Config { manifests: directory, root_namespace, authority, cert_lifetime, on_exit, agent } = config;
    let authority = authority::open(authority, &agent.trust_domain)?;
    let source = manifests::Config { directory, trust_domain: agent.trust_domain.clone(), root_namespace };
    let parts = Parts {
        authority,
        cert_lifetime,
        source: Box::new(move |_| open(source)),
        locate: Box::new(ByAnnotation),
        announce: None,
        decide_exit: Box::new(move || std::future::ready(on_exit).boxed()),
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
