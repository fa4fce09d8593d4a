//! What every node role has in common: the mesh state, the redirection, the certificates, the data-plane threads and the admin
//! pages, put together, and taken apart in the right order.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use futures_util::future::{BoxFuture, FutureExt, LocalBoxFuture, OptionFuture, join_all};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::pages::connections::Tables;
use super::pages::routes::{self, Addresses, Shown};
use super::rest::give_back;
use super::signals::EndingSignals;
use crate::control::diagnose::dump::agent::AgentConfig;
use crate::control::enroll::locate::Locate;
use crate::control::enroll::reconcile::{self, Outputs, Reconciler};
use crate::control::enroll::status::EnrolmentStatus;
use crate::control::kubelet::find::{KubeletCgroup, KubeletStatus};
use crate::control::kubelet::follow;
use crate::drivers::certs::authority::Authority;
use crate::drivers::certs::store::{CertificateStore, StoreConfig};
use crate::drivers::redirect::{self, Redirect};
use crate::drivers::tunnel::Config as TunnelConfig;
use crate::mesh::local::{HBONE_ONLY, Listeners, LocalPod, LocalPods, TUNNEL_PROTOCOLS};
use crate::mesh::source::state::MeshState;
use crate::mesh::upstream::attempts::Patience;
use crate::mesh::upstream::pool;
use crate::model::identity::TrustDomain;
use crate::runtime::budget::Budget;
use crate::runtime::drain::Drain;
use crate::runtime::ready::Readiness;
use crate::runtime::shards::{self, Commands};
use crate::sys::limits;
use crate::sys::netns::NetnsCookie;
use crate::sys::profile::{heap, modules};
use crate::telemetry::log::LogControl;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::series::Limits;
use crate::traffic::l4::context::Context;
use crate::traffic::l4::direct::ask;
use crate::traffic::l4::direct::director::{Asked, Director, SameNode};
use crate::traffic::l4::shard::{self, Command, Serve};

/// Settings of a node agent.
#[derive(Debug)]
pub struct Config {
    /// This node's name in the mesh state.
    pub node: Arc<str>,
    /// Whether allocations are noted from the start, so that a profile tells of all.
    pub notes_heap: bool,
    /// The cluster's name in telemetry.
    pub cluster: Arc<str>,
    /// The trust domain of all identities.
    pub trust_domain: TrustDomain,
    /// Where which pages are served.
    pub pages: Addresses,
    /// Data-plane threads.
    pub threads: usize,
    /// How long open connections may go on after the first signal.
    pub drain: Duration,
    /// Limits and timers of tunnels.
    pub tunnel: TunnelConfig,
    /// What tunnels speak that this agent opens.
    pub tunnel_protocol: TunnelProtocol,
    /// Time limits of reaching an endpoint.
    pub patience: Patience,
    /// The cgroup2 directory to attach to; none for the root of the hierarchy.
    pub cgroup: Option<PathBuf>,
    /// Where the kubelet is, whose probes reach pods whatever policy says.
    pub kubelet: KubeletCgroup,
    /// What is logged.
    pub log: LogControl,
    /// How connections between two enrolled pods of this node travel.
    pub same_node: SameNode,
    /// What keeps the metrics of connections within bounds.
    pub series: Limits,
}

/// What tunnels speak that an agent opens. As a server it takes either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelProtocol {
    /// `sotto/1` with agents that know it, HBONE with others.
    #[default]
    Auto,
    /// HBONE with everybody.
    H2,
}

impl TunnelProtocol {
    fn offers(self) -> &'static [&'static [u8]] {
        match self {
            Self::Auto => TUNNEL_PROTOCOLS,
            Self::H2 => HBONE_ONLY,
        }
    }
}

/// What becomes of the pods' capture when an agent ends by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// It stays in force, as after a crash: new connections wait for the next agent. There is no moment in clear text.
    Keep,
    /// It ends: the pods talk plainly, and nothing is left in the kernel.
    Remove,
}

/// Keeps the mesh state up to date until told to stop.
pub type Follow = Box<dyn FnOnce(watch::Sender<Arc<MeshState>>, CancellationToken) -> BoxFuture<'static, ()>>;

/// Where the mesh state comes from: gives the first state, which may be one that is not loaded yet, and the way to newer ones.
pub type OpenSource = Box<dyn FnOnce(&Readiness) -> anyhow::Result<(Arc<MeshState>, Follow)>>;

/// What the outside world is told of.
pub struct Told {
    /// The mesh as the agent knows it.
    pub mesh: watch::Receiver<Arc<MeshState>>,
    /// The pods of this node.
    pub enrolment: watch::Receiver<Arc<EnrolmentStatus>>,
    /// What becomes of the pods' capture, once the agent ends.
    pub on_exit: watch::Receiver<OnExit>,
    /// Ends it.
    pub stop: CancellationToken,
}

/// Decides, when the agent ends, what becomes of the pods' capture.
pub type DecideExit = Box<dyn FnOnce() -> BoxFuture<'static, OnExit>>;

/// Tells the outside world what became of the pods.
pub type Announce = Box<dyn FnOnce(Told) -> LocalBoxFuture<'static, ()>>;

/// What differs between node roles.
pub struct Parts {
    /// Who signs the pods' certificates.
    pub authority: Arc<dyn Authority>,
    /// How long certificates are asked for.
    pub cert_lifetime: Duration,
    /// Where the mesh state comes from.
    pub source: OpenSource,
    /// Where pods' network namespaces are found.
    pub locate: Box<dyn Locate>,
    /// Who is told what became of the pods, if anybody.
    pub announce: Option<Announce>,
    /// What becomes of the capture in the end.
    pub decide_exit: DecideExit,
}

/// Time that a peer has for its TLS and HTTP/2 handshakes.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// A tunnel without a stream for this long is closed, as in ztunnel.
const IDLE_TUNNEL: Duration = Duration::from_secs(300);

/// How long the connections of a pod that is gone may go on.
const GONE_POD_GRACE: Duration = Duration::from_secs(5);

/// Questions for direct connections that may wait.
const LOOKS: usize = 16;

/// How long the data-plane threads may take to drop their connections once told to.
const THREADS_END: Duration = Duration::from_secs(5);

/// Runs a node agent until a signal ends it.
///
/// # Errors
/// When it cannot start, naming what is missing, or cannot clean up behind itself.
pub fn run(config: Config, parts: impl Future<Output = anyhow::Result<Parts>>) -> anyhow::Result<()> {
    if config.notes_heap {
        heap::start(&modules::loaded(), heap::USUAL_INTERVAL);
    }
    let open_files = limits::raise_open_files().context("raising the limit of open files")?;
    tracing::info!(node = %config.node, version = env!("CARGO_PKG_VERSION"), open_files, threads = config.threads, "agent starts");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let budgets = Budgets::new(open_files)?;
    runtime.block_on(async { Agent::start(config, parts.await?, budgets)?.run().await })
}

/// Descriptors that the agent needs for itself: programs, maps, admin pages, files that it reads, what it was started with.
const OWN_DESCRIPTORS: u64 = 80;

/// What waits for applications that do not read may take this part of the agent's memory...
const WAITING_PART: u64 = 4;

/// ... and at most this much, in bytes: a thousand streams with full windows.
const MOST_WAITING: u64 = 1 << 30;

/// What all pods of the node share.
struct Budgets {
    descriptors: Arc<Budget>,
    memory: Arc<Budget>,
}

impl Budgets {
    fn new(open_files: u64) -> anyhow::Result<Self> {
        let memory = limits::memory().context("reading how much memory there is")?;
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self {
            descriptors: Budget::new(
                "file descriptors for connections (the limit of open files, RLIMIT_NOFILE)",
                size(open_files.saturating_sub(OWN_DESCRIPTORS)),
            ),
            memory: Budget::new(
                "bytes for data that applications do not read",
                size((memory / WAITING_PART).min(MOST_WAITING)),
            ),
        })
    }
}

/// The parts of a running agent that have to be driven.
struct Agent {
    config: Config,
    follow: Follow,
    announce: Option<Announce>,
    decide_exit: DecideExit,
    mesh: (watch::Sender<Arc<MeshState>>, watch::Receiver<Arc<MeshState>>),
    renewal: BoxFuture<'static, ()>,
    kubelet: BoxFuture<'static, ()>,
    director: (Director, Asked),
    reconciler: Reconciler,
    threads: shards::Threads,
    shown: Shown,
    drain: Drain,
}

impl Agent {
    fn start(config: Config, parts: Parts, budgets: Budgets) -> anyhow::Result<Self> {
        let readiness = Readiness::new();
        let metrics = Arc::new(Metrics::new(&config.cluster, config.series));
        let attach = redirect::Config { cgroup: config.cgroup.clone(), ..redirect::Config::for_node(&config.node) };
        let mut redirect = Redirect::load(&attach)?;
        let direct = redirect.take_direct().context("taking over the direct connections of the node")?;
        let (state, follow) = (parts.source)(&readiness)?;
        let mesh = watch::channel(state);
        let store = StoreConfig { lifetime: parts.cert_lifetime, ..StoreConfig::default() };
        let (certificates, renewal) = CertificateStore::new(parts.authority, store);
        let (local, local_pods) = watch::channel(Arc::<LocalPods>::default());
        let (status, enrolment) = watch::channel(Arc::<EnrolmentStatus>::default());
        let host = NetnsCookie::of_this_thread().context("reading the node's network namespace cookie")?;
        let (kubelet, kubelet_seen) = follow_kubelet(&config, &redirect, host)?;

        let tunnel = Arc::new(config.tunnel.clone());
        let (asker, verdicts) = ask::channel();
        let (direct_looks, looks) = mpsc::channel(LOOKS);
        let context = Arc::new(Context {
            node: Arc::clone(&config.node),
            cluster: Arc::clone(&config.cluster),
            trust_domain: config.trust_domain.clone(),
            mesh: mesh.1.clone(),
            local: local_pods,
            sockets: redirect.sockets(),
            metrics: Arc::clone(&metrics),
            tunnel: Arc::clone(&tunnel),
            pool: pooling(&config, redirect.sockets(), tunnel, &metrics),
            patience: config.patience.clone(),
            handshake_limit: HANDSHAKE_LIMIT,
            direct: asker,
        });
        let director = (Director::new(Arc::clone(&context), direct, config.same_node), Asked { verdicts, looks });
        let (commands, threads) =
            shards::start(config.threads, move |commands| shard::run(Arc::clone(&context), commands))?;
        let tables = Tables { threads: Arc::new(commands.questions()), direct: direct_looks };
        let outputs = Outputs {
            serve: Box::new(move |pod, listeners| serve(&commands, pod, listeners).boxed()),
            local,
            status,
            metrics: Arc::clone(&metrics),
            readiness: readiness.clone(),
        };
        let drain = Drain::new();
        let settings = reconciling(&config, host, budgets);
        let reconciler =
            Reconciler::new(settings, (redirect, parts.locate), certificates.clone(), outputs, drain.clone());
        let shown = Shown {
            mesh: mesh.1.clone(),
            enrolment,
            kubelet: kubelet_seen,
            certificates,
            trust_domain: config.trust_domain.clone(),
            metrics,
            readiness,
            config: Arc::new(told(&config)),
            log: config.log.clone(),
            tables,
            started_at: SystemTime::now(),
        };
        Ok(Self {
            config,
            follow,
            announce: parts.announce,
            decide_exit: parts.decide_exit,
            mesh,
            renewal: renewal.boxed(),
            kubelet,
            director,
            reconciler,
            threads,
            shown,
            drain,
        })
    }

    async fn run(self) -> anyhow::Result<()> {
        let Self { config, follow, announce, decide_exit, mesh, renewal, kubelet, .. } = self;
        let (mut reconciler, threads, shown, drain) = (self.reconciler, self.threads, self.shown, self.drain);
        let (director, asked) = self.director;
        let closing = CancellationToken::new();
        let (sender, mesh) = mesh;
        let (exit, on_exit) = watch::channel(OnExit::Keep);
        let readiness = shown.readiness.clone();
        let (tell, enrolment) = (mesh.clone(), shown.enrolment.clone());
        let servers = routes::bind(&config.pages, shown).await?;
        let mut signals = EndingSignals::listen().context("listening for signals")?;
        let stopped = CancellationToken::new();
        let announcing =
            announce.map(|announce| announce(Told { mesh: tell, enrolment, on_exit, stop: stopped.clone() }));
        let resting = give_back(readiness.clone(), mesh.clone());
        let background = async {
            tokio::join!(
                follow(sender, stopped.clone()),
                OptionFuture::from(announcing),
                stopped.run_until_cancelled(renewal),
                stopped.run_until_cancelled(kubelet),
                stopped.run_until_cancelled(resting),
                director.run(asked, closing.clone(), stopped.clone()),
                join_all(servers.into_iter().map(|server| server.serve(stopped.cancelled()))),
            );
        };
        let work = async {
            reconciler.run(mesh, signals.next()).await;
            let _draining = readiness.wait_for("drain");
            tracing::info!(deadline = ?config.drain, "agent ends: no new connections, open ones may finish");
            closing.cancel();
            let on_exit = decide_exit().await;
            exit.send_replace(on_exit);
            match on_exit {
                OnExit::Keep => reconciler.hold().await,
                OnExit::Remove => reconciler.withdraw().await,
            }
            reconciler.stop_serving();
            end(&drain, config.drain, &mut signals, threads).await;
            match on_exit {
                OnExit::Keep => reconciler.abandon(),
                OnExit::Remove => reconciler.finish().await.context("cleaning up behind the agent")?,
            }
            tracing::info!(?on_exit, "agent ended");
            Ok(())
        };
        let work = async {
            let result = work.await;
            stopped.cancel();
            result
        };
        let (result, ()) = tokio::join!(work, background);
        result
    }
}

fn follow_kubelet(
    config: &Config,
    redirect: &Redirect,
    host: NetnsCookie,
) -> Result<(BoxFuture<'static, ()>, watch::Receiver<KubeletStatus>), redirect::RedirectError> {
    let (status, seen) = watch::channel(KubeletStatus::default());
    let place = (config.cgroup.clone(), config.kubelet.clone());
    Ok((follow::follow(redirect.kubelets()?, place, host, status).boxed(), seen))
}

fn reconciling(config: &Config, host: NetnsCookie, budgets: Budgets) -> reconcile::Config {
    reconcile::Config {
        node: Arc::clone(&config.node),
        threads: config.threads,
        host,
        grace: GONE_POD_GRACE,
        descriptors: budgets.descriptors,
        memory: budgets.memory,
    }
}

fn pooling(config: &Config, sockets: redirect::Sockets, tunnel: Arc<TunnelConfig>, metrics: &Metrics) -> pool::Config {
    pool::Config {
        sockets,
        tunnel,
        handshake_limit: HANDSHAKE_LIMIT,
        protocols: config.tunnel_protocol.offers(),
        dial_limit: config.patience.overall,
        idle: IDLE_TUNNEL,
        metrics: metrics.tunnels.clone(),
    }
}

/// What operators see of the settings.
fn told(config: &Config) -> AgentConfig {
    AgentConfig {
        node: config.node.to_string(),
        cluster_id: config.cluster.to_string(),
        trust_domain: config.trust_domain.to_string(),
        admin_addr: Some(config.pages.admin),
        metrics_addr: config.pages.metrics,
        ready_addr: config.pages.ready,
        num_worker_threads: config.threads,
        drain_seconds: config.drain.as_secs(),
    }
}

/// Lets open connections finish until the deadline, and ends the data-plane threads.
async fn end(drain: &Drain, deadline: Duration, signals: &mut EndingSignals, threads: shards::Threads) {
    let mut joined = tokio::task::spawn_blocking(|| threads.join());
    let mut all_ended = false;
    let in_time = drain
        .run(deadline, async {
            tokio::select! {
                _ = &mut joined => all_ended = true,
                () = signals.next() => tracing::info!("second signal: ending at once"),
            }
        })
        .await;
    if !in_time {
        tracing::info!("open connections are closed: the drain's deadline has passed");
    }
    if !all_ended && tokio::time::timeout(THREADS_END, joined).await.is_err() {
        tracing::error!("a data-plane thread did not end");
    }
}

/// Has every thread serve the pod, each with a set of its listeners. Completes when all do.
fn serve(
    commands: &Commands<Command>,
    pod: &Arc<LocalPod>,
    listeners: Vec<Listeners>,
) -> impl Future<Output = io::Result<()>> + use<> {
    let order = |listeners| {
        let (begun, answer) = oneshot::channel();
        (Command::Serve(Serve { pod: Arc::clone(pod), listeners, begun }), answer)
    };
    let (orders, answers): (Vec<_>, Vec<_>) = listeners.into_iter().map(order).unzip();
    commands.send_each(orders);
    async {
        for answer in answers {
            answer.await.map_err(|_| io::Error::other("a data-plane thread has ended"))??;
        }
        Ok(())
    }
}
