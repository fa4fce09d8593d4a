//! `sotto node`: the node agent on a Kubernetes cluster.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;

use super::agent::{self, Announce, Follow, OnExit, OpenSource, Parts};
use super::authority::{AuthorityChoice, open};
use crate::control::announce::run::Announcer;
use crate::control::enroll::locate::processes::ByProcesses;
use crate::drivers::cluster::Cluster;
use crate::drivers::cluster::pods::PodWriter;
use crate::mesh::source::convert::mesh::Rules;
use crate::mesh::source::kube::collect::{self, KubeSource};
use crate::mesh::source::state::MeshState;

/// What the role runs with.
#[derive(Debug)]
pub struct Config {
    /// How to reach the API server; none for a pod's own service account.
    pub kubeconfig: Option<PathBuf>,
    /// The namespace whose policies are for the whole mesh.
    pub root_namespace: Arc<str>,
    /// Where the node's processes are.
    pub proc: PathBuf,
    /// Who signs the pods' certificates.
    pub authority: AuthorityChoice,
    /// How long certificates are asked for.
    pub cert_lifetime: Duration,
    /// What every node role has.
    pub agent: agent::Config,
}

/// Runs until a signal ends it.
///
/// # Errors
/// When the agent cannot start, or cannot clean up behind itself.
pub fn run(config: Config) -> anyhow::Result<()> {
    let Config { kubeconfig, root_namespace, proc, authority, cert_lifetime, agent } = config;
    let authority = open(authority, &agent.trust_domain)?;
    let rules = Rules { trust_domain: agent.trust_domain.clone(), root_namespace, netns_annotation: false };
    let source = collect::Config { node: Arc::clone(&agent.node), rules };
    let (node, on_exit) = (Arc::clone(&agent.node), agent.on_exit);
    agent::run(agent, async move {
        let cluster = Cluster::connect(kubeconfig.as_deref()).await?;
        Ok(Parts {
            authority,
            cert_lifetime,
            source: follow(cluster.clone(), source),
            locate: Box::new(ByProcesses::new(proc)),
            announce: Some(announce(PodWriter::new(cluster, &node), node, on_exit)),
        })
    })
}

fn follow(cluster: Cluster, config: collect::Config) -> OpenSource {
    Box::new(move |readiness| {
        let source = KubeSource::new(cluster, config, readiness);
        let follow: Follow =
            Box::new(move |sender, stop| async move { source.run(sender, stop.cancelled()).await }.boxed());
        // Nothing is known yet: what an earlier agent captured stays so, and waits.
        Ok((Arc::<MeshState>::default(), follow))
    })
}

fn announce(writer: PodWriter, node: Arc<str>, on_exit: OnExit) -> Announce {
    Box::new(move |told| {
        let announcer = Announcer::new(writer, node, told.mesh, told.enrolment);
        async move {
            announcer.run(told.stop.cancelled(), on_exit == OnExit::Remove).await;
        }
        .boxed()
    })
}
