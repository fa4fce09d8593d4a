//! The one writer of the state: takes what the followers tell, and publishes the mesh at a bearable pace.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::drivers::cluster::Cluster;
use crate::drivers::cluster::follow::{Follower, Update};
use crate::mesh::source::convert::mesh::Rules;
use crate::mesh::source::objects::kind::Kind;
use crate::mesh::source::report::report;
use crate::mesh::source::state::MeshState;
use crate::model::arrival::Arrivals;
use crate::runtime::ready::{Pending, Readiness};

use super::decode::{Decoded, decode};
use super::kinds::{FOLLOWED, Followed};
use super::store::Store;

/// How long a change waits for others that belong to it.
const BREATH: Duration = Duration::from_millis(20);

/// The conversion may take one part in so many of the time.
const SHARE: u32 = 5;

/// Updates that wait to be taken in; more slow down the reading.
const QUEUE: usize = 512;

/// What the source has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node whose pods' annotations are of interest.
    pub node: Arc<str>,
    /// How objects are converted.
    pub rules: Rules,
    /// Sandboxes of this node's pods, which are known before the API server knows the pods' addresses.
    pub arrivals: watch::Receiver<Arc<Arrivals>>,
}

/// The mesh as an API server has it. [`KubeSource::run`] keeps it up to date.
pub struct KubeSource {
    cluster: Cluster,
    config: Config,
    pending: Vec<(Kind, Pending)>,
}

impl KubeSource {
    /// A source that makes `readiness` wait for the first list of every kind.
    #[must_use]
    pub fn new(cluster: Cluster, config: Config, readiness: &Readiness) -> Self {
        let pending = FOLLOWED.iter().map(|followed| (followed.kind, readiness.wait_for(followed.pending))).collect();
        Self { cluster, config, pending }
    }

    /// Publishes every new state until `shutdown`. The caller drives it; it is the only writer of `sender`.
    pub async fn run(self, sender: watch::Sender<Arc<MeshState>>, shutdown: impl Future<Output = ()>) {
        let Self { cluster, config, pending } = self;
        let (updates, inbox) = mpsc::channel(QUEUE);
        let rules = Arc::new(config.rules.clone());
        let followers = FOLLOWED.iter().map(|&Followed { kind, resource, .. }| {
            let rules = Arc::clone(&rules);
            let decode = Box::new(move |json: &str| decode(kind, json, &rules));
            Follower { cluster: cluster.clone(), resource, tag: kind, decode, updates: updates.clone() }.run()
        });
        let collector = Collector { config, store: Store::default(), pending, sender, started: Instant::now() };
        tokio::select! {
            () = shutdown => {}
            _ = join_all(followers) => {}
            () = collector.run(inbox) => {}
        }
    }
}

impl std::fmt::Debug for KubeSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeSource").field("config", &self.config).finish_non_exhaustive()
    }
}

struct Collector {
    config: Config,
    store: Store,
    pending: Vec<(Kind, Pending)>,
    sender: watch::Sender<Arc<MeshState>>,
    started: Instant,
}

impl Collector {
    async fn run(mut self, mut inbox: mpsc::Receiver<(Kind, Update<Decoded>)>) {
        // When the next state is due; none while there is nothing new. Not before all kinds are there.
        let mut due: Option<Instant> = None;
        let mut not_before = Instant::now();
        loop {
            let synced = self.pending.is_empty();
            tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && synced => {
                    let begun = Instant::now();
                    self.publish();
                    not_before = Instant::now() + begun.elapsed() * SHARE;
                    due = None;
                }
                update = inbox.recv() => {
                    let Some((kind, update)) = update else { return };
                    if self.take(kind, update) {
                        due = due.or_else(|| Some(not_before.max(Instant::now() + BREATH)));
                    }
                }
                // Somebody waits for it.
                Ok(()) = self.config.arrivals.changed() => due = Some(not_before),
            }
        }
    }

    fn take(&mut self, kind: Kind, update: Update<Decoded>) -> bool {
        if let Update::Trouble(Some(error)) = &update
            && !self.pending.is_empty()
        {
            // Later on it is a problem of the state, which is logged once.
            tracing::warn!(%kind, %error, "nothing is known of a kind yet; trying again");
        }
        let changed = self.store.update(kind, update);
        let waited = !self.pending.is_empty();
        let store = &self.store;
        self.pending.retain(|(kind, _)| !store.is_complete(*kind));
        if waited && self.pending.is_empty() {
            let (objects, after) = (self.store.len(), self.started.elapsed());
            tracing::info!(objects, ?after, "the state of the cluster is known");
        }
        changed
    }

    fn publish(&mut self) {
        self.store.forget_gone();
        let before = Arc::clone(&self.sender.borrow());
        let arrivals = Arc::clone(&self.config.arrivals.borrow());
        let mesh = self.store.mesh(&self.config.rules, &arrivals);
        let marked = self.store.marked(&self.config.node);
        let same_view = mesh.view == *before.view;
        if before.loaded && same_view && mesh.problems == before.problems && marked == *before.marked {
            return;
        }
        report(&before.problems, &mesh.problems);
        // The same view stays the same allocation, so that readers can tell by the pointer.
        let view = if same_view { Arc::clone(&before.view) } else { Arc::new(mesh.view) };
        self.sender.send_replace(Arc::new(MeshState {
            view,
            problems: mesh.problems,
            version: before.version + 1,
            loaded: true,
            made_at: Some(SystemTime::now()),
            marked: Arc::new(marked),
        }));
    }
}
