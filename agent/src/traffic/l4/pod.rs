//! What the connections of one pod on one data-plane thread share, and what each begins with.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::admission::Admissions;
use super::context::Context;
use super::peers::Peers;
use super::relay;
use crate::drivers::tunnel::StreamError;
use crate::mesh::local::LocalPod;
use crate::mesh::upstream::pool::Pool;
use crate::model::baggage::{Baggage, BaggageText};
use crate::model::workload::Workload;
use crate::runtime::budget::{Exhausted, Permit};
use crate::runtime::rate::RateLimit;
use crate::runtime::tasks::LocalTasks;
use crate::telemetry::metrics::Refused;

/// What the connections of one pod on one thread share.
pub struct PodShard {
    /// What all connections share.
    pub context: Arc<Context>,
    /// The pod.
    pub pod: Arc<LocalPod>,
    /// The pod's tunnels to others.
    pub pool: Rc<Pool>,
    /// Who speaks to the pod's HBONE port.
    pub peers: Peers,
    /// The thread's tasks.
    pub tasks: LocalTasks,
    /// The thread's connections into pods of this node, whichever pod they come from.
    pub admissions: Rc<Admissions>,
    /// How the pod is described to others.
    pub described: Described,
}

/// How a pod is described to its peers, written once for as long as it stays the same.
#[derive(Debug, Default)]
pub struct Described(RefCell<Option<(Arc<Workload>, BaggageText)>>);

impl Described {
    /// The description of `workload`, a pod of the cluster called `cluster`.
    pub fn of(&self, workload: &Arc<Workload>, cluster: &Arc<str>) -> BaggageText {
        let last = &mut *self.0.borrow_mut();
        match last {
            Some((known, text)) if Arc::ptr_eq(known, workload) => text.clone(),
            _ => {
                let text = BaggageText::from(&Baggage::of(workload, cluster));
                *last = Some((Arc::clone(workload), text.clone()));
                text
            }
        }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// The socket.
    pub socket: TcpStream,
    /// Who connected, in canonical form.
    pub peer: SocketAddr,
    /// When.
    pub at: Instant,
    /// What it may hold.
    pub permit: Permit,
}

/// What a tunnel holds; each of its streams asks for its own.
pub const ONE_SOCKET: usize = 1;

static REFUSED: RateLimit = RateLimit::new(5, Duration::from_secs(10));

impl PodShard {
    /// Counts and tells that something of a peer was refused to stay within a limit.
    pub fn refused(&self, peer: SocketAddr, what: Refused, why: &dyn std::fmt::Display) {
        self.context.metrics.refused.count(what);
        if let Some(suppressed) = REFUSED.allow(Instant::now()) {
            tracing::warn!(pod = %self.pod.name, %peer, suppressed, limit = ?what, reason = %why, "refused to stay within a limit");
        }
    }

    /// A descriptor for a connection to the application, or the refusal of `peer`.
    ///
    /// # Errors
    /// [`Exhausted`], counted and told.
    pub fn descriptor(&self, peer: SocketAddr) -> Result<Permit, Exhausted> {
        let permit = self.pod.shares.descriptors.take(ONE_SOCKET);
        permit.inspect_err(|exhausted| self.refused(peer, Refused::Descriptors, exhausted))
    }

    /// Counts a connection that was broken off because its application does not read and there was no memory for it.
    pub fn note_end(&self, peer: SocketAddr, error: Option<&relay::RelayError>) {
        if let Some(relay::RelayError::Stream(error @ StreamError::Memory(_))) = error {
            self.refused(peer, Refused::Memory, error);
        }
    }
}
