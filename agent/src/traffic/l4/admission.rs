//! Who is let in: connections into this node's pods are admitted by policy, and looked at again whenever policies change, or
//! the pod behind a connection gets another identity, leaves the mesh or is gone.
//!
//! Each data-plane thread has one table of the connections that it carries. Admission and review happen on that thread: a
//! connection is in the table before it is dialled, so no change of policy falls between the two.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use crate::mesh::source::state::MeshState;
use crate::model::identity::Identity;
use crate::model::policy::evaluate::{Verdict, evaluate};
use crate::model::policy::rule::Request;
use crate::model::policy::workload::WorkloadPolicies;
use crate::model::view::MeshView;
use crate::model::workload::ObjectName;

/// The connections of one thread into pods of this node, by pod.
#[derive(Debug)]
pub struct Admissions {
    mesh: watch::Receiver<Arc<MeshState>>,
    pods: RefCell<HashMap<ObjectName, Guests>>,
    numbers: Cell<u64>,
}

/// The connections into one pod, with the policies by which all of them have been looked at.
#[derive(Debug)]
struct Guests {
    policies: Arc<WorkloadPolicies>,
    connections: HashMap<u64, Guest>,
    /// The pods behind them.
    sources: HashMap<ObjectName, Source>,
}

#[derive(Debug)]
struct Guest {
    request: Request,
    /// The pod behind it, where the mesh knows one of the client's address and identity.
    source: Option<ObjectName>,
    revoke: oneshot::Sender<Verdict>,
}

/// What the mesh said of a client's pod when its connections were last looked at.
#[derive(Debug)]
struct Source {
    /// Whom its certificate would name now; none if it does not belong to the mesh any more.
    identity: Option<Identity>,
    connections: usize,
}

/// A connection that was let in. It is looked at again until this is dropped.
#[derive(Debug)]
pub struct Admission {
    /// Why it was let in.
    pub verdict: Verdict,
    revoked: oneshot::Receiver<Verdict>,
    table: Rc<Admissions>,
    pod: ObjectName,
    number: u64,
}

impl Admissions {
    /// An empty table.
    #[must_use]
    pub fn new(mesh: watch::Receiver<Arc<MeshState>>) -> Rc<Self> {
        Rc::new(Self { mesh, pods: RefCell::default(), numbers: Cell::new(0) })
    }

    /// Decides about a connection into a pod by the policies of this moment.
    ///
    /// # Errors
    /// The verdict, if it is not let in.
    pub fn admit(self: &Rc<Self>, pod: &ObjectName, request: Request) -> Result<Admission, Verdict> {
        let view = Arc::clone(&self.mesh.borrow().view);
        let policies = view.policies_of(pod).ok_or(Verdict::UNKNOWN_WORKLOAD)?;
        let verdict = evaluate(&policies, &request);
        if !verdict.allowed() {
            return Err(verdict);
        }
        let source = view.workload_at(request.source_ip()).filter(|pod| request.identity() == Some(&pod.identity));
        let number = self.numbers.replace(self.numbers.get() + 1);
        let (revoke, revoked) = oneshot::channel();
        let mut pods = self.pods.borrow_mut();
        let guests = pods.entry(pod.clone()).or_insert_with(|| Guests::new(policies));
        guests.enter(number, Guest { request, source: source.map(|source| source.pod.clone()), revoke }, &view);
        Ok(Admission { verdict, revoked, table: Rc::clone(self), pod: pod.clone(), number })
    }

    /// Whether no connection is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pods.borrow().is_empty()
    }

    /// Looks at all connections again whenever the mesh has changed. Never completes.
    pub async fn follow(&self) {
        let mut mesh = self.mesh.clone();
        while mesh.changed().await.is_ok() {
            let view = Arc::clone(&mesh.borrow_and_update().view);
            self.review(&view);
        }
        std::future::pending().await
    }

    /// A pod that is not known any more keeps its connections: how long they may go on is for its drain to say.
    fn review(&self, view: &MeshView) {
        for (pod, guests) in self.pods.borrow_mut().iter_mut() {
            let policies = view.policies_of(pod).filter(|policies| *policies != guests.policies);
            let changed = guests.look_at_sources(view);
            if policies.is_some() || changed {
                guests.policies = policies.unwrap_or_else(|| Arc::clone(&guests.policies));
                guests.review();
            }
        }
    }

    fn leave(&self, pod: &ObjectName, number: u64) {
        let mut pods = self.pods.borrow_mut();
        let Some(guests) = pods.get_mut(pod) else { return };
        if let Some(guest) = guests.connections.remove(&number) {
            guests.left(&guest);
        }
        if guests.connections.is_empty() {
            pods.remove(pod);
        }
    }
}

impl Guests {
    fn new(policies: Arc<WorkloadPolicies>) -> Self {
        Self { policies, connections: HashMap::new(), sources: HashMap::new() }
    }

    fn enter(&mut self, number: u64, guest: Guest, view: &MeshView) {
        if let Some(pod) = &guest.source {
            let new = || Source { identity: identity_of(pod, view), connections: 0 };
            self.sources.entry(pod.clone()).or_insert_with(new).connections += 1;
        }
        self.connections.insert(number, guest);
    }

    fn left(&mut self, guest: &Guest) {
        let Some(pod) = &guest.source else { return };
        if let Some(source) = self.sources.get_mut(pod) {
            source.connections -= 1;
            if source.connections == 0 {
                self.sources.remove(pod);
            }
        }
    }

    /// Whether one of the pods behind the connections is not what it was.
    fn look_at_sources(&mut self, view: &MeshView) -> bool {
        let mut changed = false;
        for (pod, source) in &mut self.sources {
            let identity = identity_of(pod, view);
            changed |= identity != source.identity;
            source.identity = identity;
        }
        changed
    }

    /// Ends what would not be let in any more: by the identity that the client has proved, or as what its pod is now.
    fn review(&mut self) {
        let Self { policies, connections, sources } = self;
        let judge = |guest: &Guest| {
            let now = guest.source.as_ref().and_then(|pod| sources.get(pod)).map(|source| &source.identity);
            standing(policies, &guest.request, now)
        };
        let denied: Vec<_> = connections.extract_if(|_, guest| !judge(guest).allowed()).collect();
        let denied = denied.into_iter().map(|(_, guest)| (judge(&guest), guest)).collect::<Vec<_>>();
        for (verdict, guest) in denied {
            self.left(&guest);
            // The connection may just be ending by itself.
            let _ended = guest.revoke.send(verdict);
        }
    }
}

/// The verdict about a connection that was let in earlier: by the identity that the client has proved, and, where the mesh knows its
/// pod, as what that is `now`.
pub(super) fn standing(policies: &WorkloadPolicies, request: &Request, now: Option<&Option<Identity>>) -> Verdict {
    let verdict = evaluate(policies, request);
    match now.filter(|now| verdict.allowed() && now.as_ref() != request.identity()) {
        Some(now) => evaluate(policies, &request.with_identity(now.clone())),
        None => verdict,
    }
}

/// Whom a pod's certificate would name now, if it belongs to the mesh.
pub(super) fn identity_of(pod: &ObjectName, view: &MeshView) -> Option<Identity> {
    view.workload(pod).filter(|workload| workload.is_enrolled()).map(|workload| workload.identity.clone())
}

impl Admission {
    /// Completes when policies have changed so that the connection would not be let in any more.
    pub async fn revoked(&mut self) -> Verdict {
        match (&mut self.revoked).await {
            Ok(verdict) => verdict,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.table.leave(&self.pod, self.number);
    }
}
