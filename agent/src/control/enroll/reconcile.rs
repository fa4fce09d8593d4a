//! The one writer of who is carried on this node.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::held::Held;
use super::join::{self, JoinError};
use super::locate::{Locate, Located};
use super::map_watch::MapWatch;
use super::namespace;
use super::plan::{self, Leaving, Wanted};
use super::status::{EnrolmentStatus, PodStatus};
use super::waiting::{PodReadiness, Waiting};
use crate::drivers::certs::store::{CertificateStore, IdentityHandle};
use crate::drivers::redirect::{Redirect, RedirectError, Role};
use crate::mesh::local::{Listeners, LocalPod, LocalPods, PodParts, Shares};
use crate::mesh::source::state::MeshState;
use crate::runtime::budget::Budget;
use crate::runtime::drain::Drain;
use crate::runtime::ready::Readiness;
use crate::sys::netns::{Netns, NetnsCookie};
use crate::telemetry::metrics::Metrics;

/// How the reconciler works.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's name in the mesh state.
    pub node: Arc<str>,
    /// Data-plane threads, each of which gets its own listeners.
    pub threads: usize,
    /// The agent's own network namespace, which must never be captured.
    pub host: NetnsCookie,
    /// How long the connections of a pod that is gone may go on.
    pub grace: Duration,
    /// File descriptors for the pods and their connections.
    pub descriptors: Arc<Budget>,
    /// Bytes for what waits to be read by applications.
    pub memory: Arc<Budget>,
}

/// Takes a pod and a set of its listeners for each data-plane thread. Completes when all threads serve it.
pub type Serve = Box<dyn FnMut(&Arc<LocalPod>, Vec<Listeners>) -> BoxFuture<'static, io::Result<()>> + Send>;

/// What the reconciler reports to.
pub struct Outputs {
    /// Hands a pod's listeners to the data-plane threads, one set each.
    pub serve: Serve,
    /// The carried pods by address.
    pub local: watch::Sender<Arc<LocalPods>>,
    /// The carried and the waiting pods.
    pub status: watch::Sender<Arc<EnrolmentStatus>>,
    /// Gauges.
    pub metrics: Arc<Metrics>,
    /// What keeps the agent from being ready.
    pub readiness: Readiness,
}

/// See the module.
pub struct Reconciler {
    config: Config,
    redirect: Redirect,
    locate: Box<dyn Locate>,
    certificates: CertificateStore,
    outputs: Outputs,
    drain: Drain,
    carried: BTreeMap<Arc<str>, Carried>,
    waiting: BTreeMap<Arc<str>, Waiting>,
    closing: Vec<(Instant, Drain)>,
    reply_paths: HashMap<NetnsCookie, usize>,
    retired: (mpsc::UnboundedSender<Arc<Netns>>, mpsc::UnboundedReceiver<Arc<Netns>>),
    held: Held,
    maintained: Option<Instant>,
    readiness: PodReadiness,
    maps: MapWatch,
}

struct Carried {
    wanted: Wanted,
    /// By what path its namespace was opened.
    path: PathBuf,
    cookie: NetnsCookie,
    pod: Arc<LocalPod>,
}

/// Pods that wait are looked at again this often, and so is everything else now and then: no event is relied upon.
const RETRY: Duration = Duration::from_millis(200);

/// Between "no longer captured" and "listeners gone": a connect() that was captured just before may still be on its way through
/// the pod's loopback.
const SETTLE: Duration = Duration::from_millis(50);

/// File descriptors that a pod costs besides its listeners: its namespace, twice, the way home, and its links.
const POD_DESCRIPTORS: usize = 6;

/// Listeners of a pod on each thread.
const LISTENERS: usize = 3;

/// How often the maps are looked through for what nobody will ask for any more, and from what age on it is: an application gives
/// up a connect() after some two minutes.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
const NEVER_ACCEPTED: Duration = Duration::from_secs(300);

impl Reconciler {
    /// A reconciler that carries no pod yet. `drain` is the parent of every pod's.
    #[must_use]
    pub fn new(
        config: Config,
        (redirect, locate): (Redirect, Box<dyn Locate>),
        certificates: CertificateStore,
        outputs: Outputs,
        drain: Drain,
    ) -> Self {
        let held = Held::left_behind(&redirect).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot see what an earlier agent had enrolled; it stays captured");
            Held::default()
        });
        let readiness = PodReadiness::new(&outputs.readiness);
        let maps = MapWatch::new(&redirect);
        Self {
            config,
            redirect,
            locate,
            certificates,
            outputs,
            drain,
            carried: BTreeMap::new(),
            waiting: BTreeMap::new(),
            closing: Vec::new(),
            reply_paths: HashMap::new(),
            retired: mpsc::unbounded_channel(),
            held,
            maintained: None,
            readiness,
            maps,
        }
    }

    /// Follows the mesh state until `stop` completes.
    pub async fn run(&mut self, mut mesh: watch::Receiver<Arc<MeshState>>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut tick = tokio::time::interval(RETRY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let state = Arc::clone(&mesh.borrow_and_update());
            if state.loaded {
                self.reconcile(&state).await;
            }
            self.maintain(Instant::now());
            tokio::select! {
                () = &mut stop => return,
                Ok(()) = mesh.changed() => {}
                _ = tick.tick() => {}
                Some(netns) = self.retired.1.recv() => self.retire(&netns).await,
            }
        }
    }

    /// Captures nothing any more. Connections that are open go on.
    pub async fn withdraw(&mut self) {
        let cookies: Vec<_> = self.carried.values().map(|c| c.cookie).collect();
        cookies.iter().for_each(|&cookie| report(self.redirect.leave(cookie)));
        tokio::time::sleep(SETTLE).await;
        cookies.iter().for_each(|&cookie| report(self.redirect.detach_pod(cookie)));
    }

    /// Takes no new connections any more while the pods stay captured: theirs wait, those to them are refused, until the next
    /// agent. Connections that are open go on.
    pub async fn hold(&mut self) {
        for ip in self.carried.values().flat_map(|c| c.wanted.ips.iter().copied()) {
            for role in [Role::Outbound, Role::Plaintext, Role::Hbone] {
                report(self.redirect.unlisten(ip, role));
            }
        }
        // What is in the listeners' queues by now is still accepted.
        tokio::time::sleep(SETTLE).await;
    }

    /// Leaves everything in force: what is captured waits for the next agent, as after a crash. Dropping would do the same.
    pub fn abandon(self) {}

    /// Tells the data-plane threads that no pod will follow.
    pub fn stop_serving(&mut self) {
        self.outputs.serve = Box::new(|_, _| Box::pin(async { Ok(()) }));
    }

    /// Takes everything out of the kernel again, once the data plane has ended.
    ///
    /// # Errors
    /// When links or pins cannot be removed.
    pub async fn finish(mut self) -> Result<(), RedirectError> {
        self.carried.clear();
        self.outputs.local.send_replace(Arc::default());
        while let Ok(netns) = self.retired.1.try_recv() {
            self.retire(&netns).await;
        }
        self.redirect.release()
    }

    async fn reconcile(&mut self, state: &MeshState) {
        let view = &state.view;
        let locate = &self.locate;
        let wanted = plan::wanted(view, &self.config.node, |sought| locate.can_find(sought));
        let carried: BTreeMap<_, _> = self.carried.iter().map(|(uid, c)| (Arc::clone(uid), c.wanted.clone())).collect();
        let steps = plan::steps(view, &wanted, &carried, &self.lost());
        let gave_up = self.waiting.iter().any(|(uid, waiting)| wanted.get(uid) != Some(&waiting.wanted));
        let changed = gave_up || !steps.leave.is_empty() || !steps.join.is_empty();
        self.leave(steps.leave).await;
        self.waiting.retain(|uid, waiting| wanted.get(uid) == Some(&waiting.wanted));
        for pod in steps.join {
            self.try_join(pod).await;
        }
        self.let_go(state).await;
        self.close_expired(Instant::now());
        if changed {
            self.publish();
        }
        self.readiness.look_at(self.waiting.values(), Instant::now());
    }

    async fn try_join(&mut self, wanted: Wanted) {
        let uid = Arc::clone(&wanted.uid);
        let waiting = self.waiting.remove(&uid);
        let (identity, previous, since) = match waiting {
            Some(waiting) => (waiting.identity, waiting.problem, waiting.since),
            None => (self.certificates.hold(&wanted.identity), String::new(), Instant::now()),
        };
        match self.join(&wanted, &identity).await {
            Ok(carried) => {
                tracing::info!(pod = %wanted.name, ips = ?wanted.ips, identity = %wanted.identity, "pod joined the mesh");
                self.outputs.metrics.node.started.inc();
                self.carried.insert(uid, carried);
            }
            Err(error) => {
                let problem = error.to_string();
                if problem != previous && !error.is_expected() {
                    tracing::warn!(pod = %wanted.name, error = problem, "pod cannot join the mesh yet; trying again");
                }
                let for_certificate = matches!(error, JoinError::Certificate(_));
                let is_failing = !error.is_expected();
                self.waiting.insert(uid, Waiting { wanted, identity, problem, since, for_certificate, is_failing });
            }
        }
    }

    async fn join(&mut self, wanted: &Wanted, identity: &IdentityHandle) -> Result<Carried, JoinError> {
        let Located { netns, path } = join::open_netns(&mut *self.locate, wanted, self.config.host)?;
        let cookie = netns.cookie();
        if let Some(other) = self.carried.values().find(|c| c.cookie == cookie) {
            let other = other.wanted.name.to_string();
            return Err(JoinError::SharedNetns { path, other });
        }
        identity.credentials()?;
        let listeners = join::prepare(&mut self.redirect, wanted, &netns, self.config.threads).await?;
        *self.reply_paths.entry(cookie).or_default() += 1;
        let shares = Shares {
            descriptors: self.config.descriptors.share(POD_DESCRIPTORS + LISTENERS * self.config.threads),
            memory: self.config.memory.share(0),
        };
        let parts = PodParts {
            name: wanted.name.clone(),
            uid: Arc::clone(&wanted.uid),
            ips: wanted.ips.clone(),
            identity: wanted.identity.clone(),
            credentials: identity.clone(),
            netns: Arc::new(netns),
            shares,
        };
        let pod = Arc::new(LocalPod::new(parts, self.drain.child(), self.retired.0.clone()));
        if let Err(error) = (self.outputs.serve)(&pod, listeners).await {
            pod.drain.end();
            return Err(JoinError::Prepare(error));
        }
        self.outputs.local.send_modify(|local| {
            let local = Arc::make_mut(local);
            local.extend(wanted.ips.iter().map(|&ip| (ip, Arc::clone(&pod))));
        });
        if let Err(error) = join::capture(&mut self.redirect, wanted, cookie) {
            self.forget_addresses(wanted, &pod);
            pod.drain.end();
            return Err(error);
        }
        Ok(Carried { wanted: wanted.clone(), path, cookie, pod })
    }

    async fn leave(&mut self, leaving: Vec<(Arc<str>, Leaving)>) {
        if leaving.is_empty() {
            return;
        }
        let leaving: Vec<_> =
            leaving.into_iter().filter_map(|(uid, why)| Some((self.carried.remove(&uid)?, why))).collect();
        for (carried, _) in leaving.iter().filter(|(_, why)| *why != Leaving::Changed) {
            report(self.redirect.leave(carried.cookie));
        }
        tokio::time::sleep(SETTLE).await;
        for (carried, why) in leaving {
            let Carried { wanted, cookie, pod, .. } = carried;
            if why == Leaving::Changed {
                self.held.insert(cookie);
            } else {
                self.stop_capture(cookie);
            }
            self.forget_addresses(&wanted, &pod);
            pod.drain.begin();
            if why != Leaving::Unlabelled {
                self.closing.push((Instant::now() + self.config.grace, pod.drain.clone()));
            }
            tracing::info!(pod = %wanted.name, reason = ?why, "pod left the mesh");
            self.outputs.metrics.node.stopped.inc();
        }
    }

    fn forget_addresses(&mut self, wanted: &Wanted, pod: &Arc<LocalPod>) {
        self.outputs.local.send_modify(|local| {
            Arc::make_mut(local).retain(|_, other| !Arc::ptr_eq(other, pod));
        });
        for &ip in &wanted.ips {
            if self.outputs.local.borrow().contains_key(&ip) {
                continue;
            }
            for role in [Role::Outbound, Role::Plaintext, Role::Hbone] {
                report(self.redirect.unlisten(ip, role));
            }
        }
    }

    /// Carried pods that are no longer in the namespace that they were found in. The agent's own descriptors keep such a
    /// namespace alive, so nothing else would tell.
    fn lost(&mut self) -> BTreeSet<Arc<str>> {
        let locate = &mut self.locate;
        let lost = self.carried.iter().filter(|(_, c)| locate.has_moved(c.wanted.sought(), c.pod.netns()));
        lost.map(|(uid, _)| Arc::clone(uid)).collect()
    }

    /// Lets go of captured namespaces that no pod wants any more. As long as a part of the state cannot be read, a pod described
    /// there may still be wanted: it stays captured.
    async fn let_go(&mut self, state: &MeshState) {
        self.held.claimed(self.carried.values().map(|c| c.cookie));
        report(self.held.forget_dead(&mut self.redirect));
        if state.may_hide_pods() {
            return;
        }
        let homeless = plan::without_address(&state.view, &self.config.node);
        let claims = self.waiting.values().map(|w| &w.wanted).chain(&homeless);
        for cookie in self.held.take_unwanted(&self.redirect, &mut *self.locate, claims) {
            tracing::info!(cookie = cookie.0, "letting go of a network namespace that no enrolled pod has any more");
            self.stop_capture(cookie);
            self.clean(cookie, state).await;
        }
        if self.waiting.is_empty() {
            report(self.redirect.retire_predecessors());
        }
    }

    /// Removes the reply path that a dead agent left in a pod that runs on outside the mesh.
    async fn clean(&mut self, cookie: NetnsCookie, state: &MeshState) {
        if self.reply_paths.contains_key(&cookie) {
            return;
        }
        let here =
            state.view.workloads().filter(|w| w.node == self.config.node && !w.host_network).map(|w| plan::sought(w));
        let findable: Vec<_> = here.filter(|sought| self.locate.can_find(*sought)).collect();
        let mut found = findable.into_iter().filter_map(|sought| self.locate.open(sought).ok());
        if let Some(located) = found.find(|located| located.netns.cookie() == cookie) {
            namespace::clean(&located.netns).await;
        }
    }

    fn stop_capture(&mut self, cookie: NetnsCookie) {
        report(self.redirect.leave(cookie));
        report(self.redirect.detach_pod(cookie));
    }

    async fn retire(&mut self, netns: &Netns) {
        let cookie = netns.cookie();
        let Some(users) = self.reply_paths.get_mut(&cookie) else { return };
        *users -= 1;
        if *users > 0 {
            return;
        }
        self.reply_paths.remove(&cookie);
        namespace::clean(netns).await;
    }

    fn close_expired(&mut self, now: Instant) {
        self.closing.retain(|(deadline, drain)| {
            if *deadline <= now {
                drain.end();
            }
            *deadline > now
        });
    }

    /// Reads the programs' counters, and now and then forgets what connections that were never accepted left in the maps.
    fn maintain(&mut self, now: Instant) {
        let metrics = &self.outputs.metrics.node;
        metrics.descriptors.set(gauge(self.config.descriptors.used()));
        metrics.waiting_bytes.set(gauge(self.config.memory.used()));
        match self.redirect.counters() {
            Ok(counters) => metrics.events(&counters.named()),
            Err(error) => report(Err(error)),
        }
        self.maps.look(now, metrics);
        if self.maintained.is_none_or(|at| now - at >= SWEEP_EVERY) {
            self.maintained = Some(now);
            report(self.redirect.forget_stale(NEVER_ACCEPTED).map(drop));
        }
    }

    fn publish(&self) {
        let carried = self.carried.values().map(|c| PodStatus::of(&c.wanted, Some(&c.path), None));
        let waiting = self.waiting.values().map(|w| PodStatus::of(&w.wanted, None, Some(w.problem.clone())));
        let mut pods: Vec<_> = carried.chain(waiting).collect();
        pods.sort_by(|a, b| a.uid.cmp(&b.uid));
        let failing = self.waiting.values().filter(|waiting| waiting.is_failing).count();
        self.outputs.metrics.node.pods(self.carried.len(), self.waiting.len() - failing, failing);
        self.outputs.status.send_replace(Arc::new(EnrolmentStatus { pods }));
    }
}

fn report(result: Result<(), RedirectError>) {
    if let Err(error) = result {
        tracing::error!(%error, "the redirection could not be changed");
    }
}

fn gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
