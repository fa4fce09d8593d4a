//! `sotto node`: the node agent on a Kubernetes cluster.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::{FutureExt, OptionFuture};
use tokio::sync::watch;
use tokio::time::timeout;

use super::agent::{self, Announce, Follow, OnExit, OpenSource, Parts, Told};
use super::authority::{AuthorityChoice, open};
use crate::control::announce::run::Announcer;
use crate::control::enroll::handover::Handover;
use crate::control::enroll::locate::handover::ByHandover;
use crate::control::enroll::reception::Reception;
use crate::control::provision::keep::keep;
use crate::control::provision::node::Node;
use crate::drivers::cluster::Cluster;
use crate::drivers::cluster::objects::daemon_set::{DaemonSetRef, is_leaving};
use crate::drivers::cluster::pods::PodWriter;
use crate::mesh::source::convert::mesh::Rules;
use crate::mesh::source::kube::collect::{self, KubeSource};
use crate::mesh::source::state::MeshState;
use crate::model::arrival::Arrivals;

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
    /// What becomes of the pods' capture when the agent ends.
    pub on_exit: OnExit,
    /// The agent's own DaemonSet.
    pub daemon_set: Option<DaemonSetRef>,
    /// How new pods are met; none if they are only found once they run.
    pub cni: Option<Cni>,
    /// What every node role has.
    pub agent: agent::Config,
}

/// The CNI plugin of the node.
#[derive(Clone, Debug)]
pub struct Cni {
    /// Where it goes, and what it is told.
    pub node: Node,
    /// Where it finds the agent.
    pub socket: PathBuf,
}

/// How long the API server is waited for when the agent ends.
const LAST_QUESTION: Duration = Duration::from_secs(3);

/// Runs until a signal ends it.
///
/// # Errors
/// When the agent cannot start, or cannot clean up behind itself.
pub fn run(config: Config) -> anyhow::Result<()> {
    let Config { kubeconfig, root_namespace, proc, authority, cert_lifetime, on_exit, daemon_set, cni, agent } = config;
    let authority = open(authority, &agent.trust_domain)?;
    let (arrivals, arrived) = watch::channel(Arc::default());
    let rules = Rules { trust_domain: agent.trust_domain.clone(), root_namespace, netns_annotation: false };
    let source = collect::Config { node: Arc::clone(&agent.node), rules, arrivals: arrived.clone() };
    let node = Arc::clone(&agent.node);
    agent::run(agent, async move {
        let door = cni.map(|cni| open_door(cni, arrivals)).transpose()?;
        let cluster = Cluster::connect(kubeconfig.as_deref()).await?;
        let writer = PodWriter::new(cluster.clone(), &node);
        Ok(Parts {
            authority,
            cert_lifetime,
            source: follow(cluster.clone(), source),
            locate: Box::new(ByHandover::new(arrived, proc)),
            announce: Some(announce(writer, node, door)),
            decide_exit: Box::new(move || decide(cluster, on_exit, daemon_set).boxed()),
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

/// Where the CNI plugin comes to, and the plugin itself.
struct Door {
    handover: Handover,
    node: Node,
    arrivals: watch::Sender<Arc<Arrivals>>,
}

fn open_door(cni: Cni, arrivals: watch::Sender<Arc<Arrivals>>) -> anyhow::Result<Door> {
    // The binary first: a chain that names a plugin that is not there starts no pod at all.
    cni.node.install(Path::new("/proc/self/exe")).context("--cni-bin-dir")?;
    Ok(Door { handover: Handover::bind(&cni.socket)?, node: cni.node, arrivals })
}

fn announce(writer: PodWriter, node: Arc<str>, door: Option<Door>) -> Announce {
    Box::new(move |told| {
        let announcer = Announcer::new(writer, Arc::clone(&node), told.mesh.clone(), told.enrolment.clone());
        let (on_exit, stop) = (told.on_exit.clone(), told.stop.clone());
        let announcing = announcer.run(stop.cancelled_owned(), move || *on_exit.borrow() == OnExit::Remove);
        let meeting = OptionFuture::from(door.map(|door| meet(door, node, told)));
        async move {
            tokio::join!(announcing, meeting);
        }
        .boxed_local()
    })
}

/// Meets new pods, and keeps the plugin where it has to be.
async fn meet(door: Door, node: Arc<str>, told: Told) {
    let Door { handover, node: provided, arrivals } = door;
    let Told { mesh, enrolment, on_exit, stop } = told;
    let reception = Reception::new(node, arrivals, mesh, enrolment);
    tokio::join!(
        handover.serve(async |request| reception.answer(request).await, stop.cancelled()),
        keep(provided.clone(), stop.cancelled()),
    );
    if *on_exit.borrow() == OnExit::Remove {
        let removed = tokio::task::spawn_blocking(move || provided.remove()).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, "the CNI plugin could not be taken out of the chain");
        }
    }
}

async fn decide(cluster: Cluster, on_exit: OnExit, daemon_set: Option<DaemonSetRef>) -> OnExit {
    let Some(daemon_set) = daemon_set.filter(|_| on_exit == OnExit::Keep) else { return on_exit };
    match timeout(LAST_QUESTION, is_leaving(&cluster, &daemon_set)).await {
        Ok(Ok(true)) => OnExit::Remove,
        Ok(Ok(false)) => OnExit::Keep,
        // In doubt nothing may leave in clear text.
        Ok(Err(error)) => {
            tracing::warn!(%error, "whether the mesh is being removed cannot be told; the capture stays in force");
            OnExit::Keep
        }
        Err(_) => OnExit::Keep,
    }
}
