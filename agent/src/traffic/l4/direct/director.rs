//! The one who decides which pods of this node talk directly, and follows what becomes of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::ask::Ask;
use super::grants::{Grants, Step};
use super::report::Reports;
use super::{services, sever};
use crate::drivers::redirect::{Direct, Ending, OpenFlow};
use crate::mesh::local::LocalPods;
use crate::mesh::source::state::MeshState;
use crate::runtime::rate::RateLimit;
use crate::sys::bpf::boot_time;
use crate::sys::netns::NetnsCookie;
use crate::traffic::l4::context::Context;
use crate::traffic::l4::live::{self, Look};
use crate::traffic::l4::record;

/// How connections between two enrolled pods of one node travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameNode {
    /// Straight from pod to pod, once the agent has let the first of their kind in.
    Direct,
    /// Through the agent, each of them.
    Relay,
}

/// How often ends are read and the lease is renewed, how often everything that is open is looked at, and how often it is measured:
/// as often as its bytes are counted.
const TICK: Duration = Duration::from_millis(100);
const TICKS_PER_LOOK: u32 = 10;
const TICKS_PER_ROUND: u32 = 50;

/// For how long verdicts count that nobody renews: an agent that is gone, or hangs, could not withdraw them.
const LEASE: Duration = Duration::from_secs(1);

/// Looks in a row without a connection after which a verdict is given up: ten minutes.
const UNUSED_LOOKS: u32 = 600;

/// How long a pair of pods is relayed after a direct connection between them did not arrive.
const BLOCKED: Duration = Duration::from_secs(60);

/// Ends that are told of in one go before others on this thread get their turn.
const ENDS_PER_TURN: usize = 256;

/// Connections that are measured in one go, a system call each, before others on this thread get their turn.
const MEASURED_PER_TURN: usize = 256;

static STRAYED: RateLimit = RateLimit::new(5, Duration::from_secs(60));
static TROUBLE: RateLimit = RateLimit::new(5, Duration::from_secs(60));

/// What others want of the director.
#[derive(Debug)]
pub struct Asked {
    /// Verdicts.
    pub verdicts: mpsc::Receiver<Ask>,
    /// To see what is open.
    pub looks: mpsc::Receiver<Look>,
}

/// See the module. What it tells of is in the list of open connections of its thread, which has no others.
#[derive(Debug)]
pub struct Director {
    context: Arc<Context>,
    direct: Direct,
    mode: SameNode,
    is_ending: bool,
    grants: Grants,
    reports: Reports,
    blocked: HashMap<(NetnsCookie, SocketAddr), Instant>,
}

impl Director {
    /// One that has granted nothing yet.
    #[must_use]
    pub fn new(context: Arc<Context>, direct: Direct, mode: SameNode) -> Self {
        let mode = if mode == SameNode::Direct && !can_sever() { SameNode::Relay } else { mode };
        let first = u64::try_from(boot_time().as_nanos()).unwrap_or(1);
        let (grants, reports) = (Grants::new(first), Reports::default());
        Self { context, direct, mode, is_ending: false, grants, reports, blocked: HashMap::new() }
    }

    /// Answers those who ask, and follows the mesh. Lets nobody go directly any more once `closing` is cancelled, and ends with `stop`.
    pub async fn run(self, asked: Asked, closing: CancellationToken, stop: CancellationToken) {
        let metrics = Arc::clone(&self.context.metrics);
        tokio::select! {
            () = self.direct(asked, closing, stop) => {}
            () = record::keep_reporting(&metrics) => {}
        }
    }

    async fn direct(mut self, asked: Asked, closing: CancellationToken, stop: CancellationToken) {
        let Asked { mut verdicts, mut looks } = asked;
        let (mut mesh, mut local) = (self.context.mesh.clone(), self.context.local.clone());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0u32;
        self.follow_services(&mesh);
        loop {
            tokio::select! {
                // What has changed comes before what is asked.
                biased;
                () = stop.cancelled() => break,
                () = closing.cancelled(), if !self.is_ending => self.close(),
                Ok(()) = mesh.changed() => {
                    self.review(&mesh, &local);
                    self.follow_services(&mesh);
                }
                Ok(()) = local.changed() => {
                    self.review(&mesh, &local);
                }
                _ = ticks.tick() => {
                    self.renew();
                    self.read_ends().await;
                    number = number.wrapping_add(1);
                    if number.is_multiple_of(TICKS_PER_LOOK) {
                        self.look(&mesh, &local);
                    }
                    if number.is_multiple_of(TICKS_PER_ROUND) {
                        self.reports.begin_round();
                    }
                }
                Some(look) = looks.recv() => self.show(look),
                Some(ask) = verdicts.recv() => self.answer(&ask, &mesh, &local),
                () = tokio::task::yield_now(), if self.reports.has_due() => {
                    warn(self.reports.measure_some(&self.grants, MEASURED_PER_TURN));
                }
            }
        }
        self.close();
        self.read_ends().await;
    }

    /// Shows some of the connections, as they are now.
    fn show(&self, look: Look) {
        let places = look.from..look.from.saturating_add(live::AT_ONCE);
        warn(self.reports.measure_at(&self.grants, places));
        live::look(look);
    }

    fn close(&mut self) {
        self.is_ending = true;
        self.mode = SameNode::Relay;
        warn(self.direct.renew(Duration::ZERO));
    }

    fn renew(&mut self) {
        if self.mode == SameNode::Direct {
            warn(self.direct.renew(LEASE));
        }
    }

    fn follow_services(&mut self, mesh: &watch::Receiver<Arc<MeshState>>) {
        if self.mode == SameNode::Direct {
            let view = Arc::clone(&mesh.borrow().view);
            warn(self.direct.set_services(&services::endpoints(&view, &self.context.node)));
        }
    }

    fn answer(&mut self, ask: &Ask, mesh: &watch::Receiver<Arc<MeshState>>, local: &watch::Receiver<Arc<LocalPods>>) {
        let between = (ask.source.netns().cookie(), ask.destination.netns().cookie());
        let is_blocked = self.blocked.get(&(between.0, ask.address)).is_some_and(|until| *until > Instant::now());
        if self.mode != SameNode::Direct || is_blocked || between.0 == between.1 {
            return;
        }
        let view = Arc::clone(&mesh.borrow().view);
        let Some(number) = self.grants.decide(ask, &view, &local.borrow()) else { return };
        match self.direct.grant(between, ask.address, number) {
            Ok(true) => {}
            Ok(false) => self.grants.close(number),
            Err(error) => {
                self.grants.close(number);
                warn(Err(error));
            }
        }
    }

    /// Everything that the mesh does not allow any more goes, first from the kernel's verdicts, then from its connections.
    fn review(&mut self, mesh: &watch::Receiver<Arc<MeshState>>, local: &watch::Receiver<Arc<LocalPods>>) {
        if self.grants.is_empty() {
            return;
        }
        let view = Arc::clone(&mesh.borrow().view);
        let steps = self.grants.review(&view, &local.borrow(), self.is_ending);
        self.withdraw(&steps);
        if steps.iter().any(|step| matches!(step, Step::Sever(_))) {
            self.sever(None);
        }
    }

    fn withdraw(&self, steps: &[Step]) {
        for step in steps {
            let Step::Withdraw(number) = step else { continue };
            if let Some(grant) = self.grants.get(*number) {
                warn(self.direct.withdraw(grant.source.netns.cookie(), grant.address, *number));
            }
        }
    }

    fn sever(&self, open: Option<&[OpenFlow]>) {
        let severed = match open {
            Some(open) => sever::sever(&self.grants, open),
            None => self.direct.open().and_then(|open| sever::sever(&self.grants, &open)),
        };
        match severed {
            Ok(0) => {}
            Ok(connections) => {
                tracing::info!(connections, "connections between pods of this node severed: not allowed any more")
            }
            Err(error) => warn(Err(error)),
        }
    }

    /// Looks at everything that is open. What a review cannot have seen (an earlier agent's connections) is reviewed now.
    fn look(&mut self, mesh: &watch::Receiver<Arc<MeshState>>, local: &watch::Receiver<Arc<LocalPods>>) {
        let open = match self.direct.open() {
            Ok(open) => open,
            Err(error) => return warn(Err(error)),
        };
        let now = Instant::now();
        self.blocked.retain(|_, until| *until > now);
        if open.is_empty() && self.grants.is_empty() {
            return;
        }
        let view = Arc::clone(&mesh.borrow().view);
        let mut adopted = false;
        let mut counts = HashMap::new();
        for OpenFlow { ends, .. } in &open {
            *counts.entry(ends.grant).or_default() += 1;
            if self.grants.get(ends.grant).is_none() {
                adopted |= self.grants.adopt(ends, &view, &local.borrow());
            }
        }
        self.reports.note_open(&self.context, &self.grants, &open, boot_time());
        if adopted {
            self.review(mesh, local);
        }
        self.sever(Some(&open));
        let steps = self.grants.note_open(&counts, UNUSED_LOOKS);
        self.withdraw(&steps);
    }

    async fn read_ends(&mut self) {
        let mut read = 0;
        while let Some(end) = self.direct.next_end() {
            self.grants.note_used(end.ends.grant);
            if end.ending == Ending::Strayed {
                self.block(end.ends.netns, end.ends.server);
            }
            self.reports.ended(&self.context, self.grants.get(end.ends.grant), &end);
            read += 1;
            if read % ENDS_PER_TURN == 0 {
                self.renew();
                tokio::task::yield_now().await;
            }
        }
    }

    /// Relays what does not get there directly.
    fn block(&mut self, client: NetnsCookie, server: SocketAddr) {
        self.blocked.insert((client, server), Instant::now() + BLOCKED);
        if let Some(suppressed) = STRAYED.allow(Instant::now()) {
            tracing::warn!(%server, suppressed, relayed_for = ?BLOCKED, "a direct connection did not reach the pod of this node, and was cut off: is its address rewritten on the way (masquerading), or has the pod gone?");
        }
    }
}

/// What cannot be withdrawn must not be granted.
fn can_sever() -> bool {
    let why = match sever::is_possible() {
        Ok(true) => return true,
        Ok(false) => "the kernel cannot end others' connections: CONFIG_INET_DIAG_DESTROY is not set".to_owned(),
        Err(error) => format!("the kernel does not say whether it can end others' connections (sock_diag): {error}"),
    };
    tracing::warn!(why, "connections between pods of this node go through the agent");
    false
}

fn warn<E: std::fmt::Display>(result: Result<(), E>) {
    if let Err(error) = result
        && let Some(suppressed) = TROUBLE.allow(Instant::now())
    {
        tracing::warn!(%error, suppressed, "the kernel does not do as asked about direct connections");
    }
}
