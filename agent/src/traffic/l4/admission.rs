//! Who is let in: connections into this node's pods are admitted by policy, and looked at again whenever policies change.
//!
//! Each data-plane thread has one table of the connections that it carries. Admission and review happen on that thread: a
//! connection is in the table before it is dialled, so no change of policy falls between the two.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use crate::mesh::source::state::MeshState;
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
}

#[derive(Debug)]
struct Guest {
    request: Request,
    revoke: oneshot::Sender<Verdict>,
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
        let number = self.numbers.replace(self.numbers.get() + 1);
        let (revoke, revoked) = oneshot::channel();
        let mut pods = self.pods.borrow_mut();
        let guests = pods.entry(pod.clone()).or_insert_with(|| Guests { policies, connections: HashMap::new() });
        guests.connections.insert(number, Guest { request, revoke });
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
            if let Some(policies) = view.policies_of(pod).filter(|policies| *policies != guests.policies) {
                guests.policies = policies;
                guests.review();
            }
        }
    }

    fn leave(&self, pod: &ObjectName, number: u64) {
        let mut pods = self.pods.borrow_mut();
        let Some(guests) = pods.get_mut(pod) else { return };
        guests.connections.remove(&number);
        if guests.connections.is_empty() {
            pods.remove(pod);
        }
    }
}

impl Guests {
    fn review(&mut self) {
        let policies = &self.policies;
        let denied = self.connections.extract_if(|_, guest| !evaluate(policies, &guest.request).allowed());
        for (_, Guest { request, revoke }) in denied {
            // The connection may just be ending by itself.
            let _ended = revoke.send(evaluate(policies, &request));
        }
    }
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
