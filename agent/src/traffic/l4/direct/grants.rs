//! The verdicts that are given, and what becomes of them when the mesh changes: no kernel, no clock.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::ask::Ask;
use crate::drivers::redirect::Ends;
use crate::mesh::local::{LocalPod, LocalPods};
use crate::model::identity::Identity;
use crate::model::policy::evaluate::{Verdict, evaluate};
use crate::model::policy::rule::Request;
use crate::model::view::MeshView;
use crate::model::workload::ObjectName;
use crate::runtime::drain::Drain;
use crate::sys::netns::{Netns, NetnsCookie};
use crate::traffic::l4::admission::{identity_of, standing};

/// Verdicts of one client at a time: one that tries all ports of a neighbour takes no room from others.
const MOST_PER_CLIENT: usize = 4096;

/// All verdicts: those in force, and those under which connections may still be open.
#[derive(Debug)]
pub(super) struct Grants {
    grants: HashMap<u64, Grant>,
    open: HashMap<(NetnsCookie, SocketAddr), u64>,
    clients: HashMap<NetnsCookie, usize>,
    next: u64,
}

/// One verdict.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) source: Party,
    pub(super) destination: Party,
    pub(super) address: SocketAddr,
    pub(super) verdict: Verdict,
    pub(super) standing: Standing,
    request: Request,
    /// Looks at the mesh in a row in which no connection was under it.
    unused: u32,
}

/// One of the two pods as it was when the verdict was given. It holds no [`LocalPod`]: a pod that leaves does not wait for this.
#[derive(Clone, Debug)]
pub(super) struct Party {
    pub(super) name: ObjectName,
    pub(super) identity: Identity,
    pub(super) netns: Arc<Netns>,
    drain: Drain,
}

/// What a verdict is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// New connections may go.
    Open,
    /// No new ones: a pod is not what it was. Those that are open go on as far as policy lets them.
    Closed,
    /// None: those that are open are severed. With the verdict, if policy says so.
    Revoked(Option<Verdict>),
}

/// What has to be done about a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Take it out of the kernel.
    Withdraw(u64),
    /// Sever its connections; comes after its `Withdraw`.
    Sever(u64),
}

impl Grants {
    /// None yet. Numbers begin at `first`: an earlier agent's must not come again.
    pub(super) fn new(first: u64) -> Self {
        Self { grants: HashMap::new(), open: HashMap::new(), clients: HashMap::new(), next: first }
    }

    /// A verdict that was given.
    pub(super) fn get(&self, number: u64) -> Option<&Grant> {
        self.grants.get(&number)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// Decides about connections like this. The number of a verdict that is to be in force, new or not; none if they may not, or
    /// have to go through the agent.
    pub(super) fn decide(&mut self, ask: &Ask, view: &MeshView, local: &LocalPods) -> Option<u64> {
        let Ask { source, destination, address } = ask;
        let key = (source.netns().cookie(), *address);
        if let Some(number) = self.open.get(&key) {
            return Some(*number);
        }
        let grant = Grant::judge((source.into(), destination.into()), *address, view)?;
        if !grant.holds(view, local) || self.clients.get(&key.0).is_some_and(|number| *number >= MOST_PER_CLIENT) {
            return None;
        }
        let number = self.insert(grant);
        self.open.insert(key, number);
        *self.clients.entry(key.0).or_default() += 1;
        Some(number)
    }

    /// Takes on the connections that an earlier agent let under a verdict: they are looked at from now on, and no new ones come to
    /// them. Says whether it could: both pods have to be carried.
    pub(super) fn adopt(&mut self, ends: &Ends, view: &MeshView, local: &LocalPods) -> bool {
        let source = local.get(&ends.client.ip()).filter(|pod| pod.netns().cookie() == ends.netns);
        let destination = local.get(&ends.server.ip());
        let (Some(source), Some(destination)) = (source, destination) else { return false };
        let Some(policies) = view.policies_of(&destination.name) else { return false };
        let (source, destination) = (Party::from(source), Party::from(destination));
        let request = request(&source, ends.client.ip(), ends.server);
        let verdict = evaluate(&policies, &request);
        let (address, standing) = (ends.server, Standing::Closed);
        self.grants.insert(ends.grant, Grant { source, destination, address, verdict, standing, request, unused: 0 });
        true
    }

    /// Looks at all verdicts again. `is_ending`: that pods have to end their connections means no more than that the agent ends, whom
    /// these do not need.
    pub(super) fn review(&mut self, view: &MeshView, local: &LocalPods, is_ending: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        for (&number, grant) in &mut self.grants {
            let before = grant.standing.clone();
            if matches!(before, Standing::Revoked(_)) {
                continue;
            }
            if !is_ending && (grant.source.drain.has_ended() || grant.destination.drain.has_ended()) {
                grant.standing = Standing::Revoked(None);
            }
            grant.review(view, local);
            if before == Standing::Open && grant.standing != Standing::Open {
                let key = (grant.source.netns.cookie(), grant.address);
                close(&mut self.open, &mut self.clients, &key);
                steps.push(Step::Withdraw(number));
            }
            if before != grant.standing && matches!(grant.standing, Standing::Revoked(_)) {
                steps.push(Step::Sever(number));
            }
        }
        steps
    }

    /// Takes a verdict out of force; also one that could not be put in force.
    pub(super) fn close(&mut self, number: u64) {
        let Some(grant) = self.grants.get_mut(&number) else { return };
        if grant.standing == Standing::Open {
            grant.standing = Standing::Closed;
            close(&mut self.open, &mut self.clients, &(grant.source.netns.cookie(), grant.address));
        }
    }

    /// Notes how many connections are under each. Those without any for `patience` looks in a row are given up; says which of them
    /// are to be withdrawn.
    pub(super) fn note_open(&mut self, connections: &HashMap<u64, usize>, patience: u32) -> Vec<Step> {
        let mut steps = Vec::new();
        for (number, grant) in &mut self.grants {
            grant.unused = if connections.contains_key(number) { 0 } else { grant.unused + 1 };
            if grant.unused > patience && grant.standing == Standing::Open {
                steps.push(Step::Withdraw(*number));
            }
        }
        for step in &steps {
            if let Step::Withdraw(number) = step {
                self.close(*number);
            }
        }
        // Ends are told within moments of a connection's leaving the map.
        const SOON: u32 = 3;
        self.grants.retain(|_, grant| grant.standing == Standing::Open || grant.unused <= SOON);
        steps
    }

    /// Notes that a connection was made under a verdict.
    pub(super) fn note_used(&mut self, number: u64) {
        if let Some(grant) = self.grants.get_mut(&number) {
            grant.unused = 0;
        }
    }

    /// The verdicts whose connections must not be open, with the two pods.
    pub(super) fn revoked(&self) -> impl Iterator<Item = (u64, &Grant)> {
        self.grants
            .iter()
            .filter(|(_, grant)| matches!(grant.standing, Standing::Revoked(_)))
            .map(|(n, grant)| (*n, grant))
    }

    fn insert(&mut self, grant: Grant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.grants.insert(number, grant);
        number
    }
}

fn close(
    open: &mut HashMap<(NetnsCookie, SocketAddr), u64>,
    clients: &mut HashMap<NetnsCookie, usize>,
    key: &(NetnsCookie, SocketAddr),
) {
    if open.remove(key).is_none() {
        return;
    }
    if let Some(number) = clients.get_mut(&key.0) {
        *number -= 1;
        if *number == 0 {
            clients.remove(&key.0);
        }
    }
}

impl Grant {
    /// A verdict about connections from one pod to an address of another, if policy lets them in.
    fn judge((source, destination): (Party, Party), address: SocketAddr, view: &MeshView) -> Option<Self> {
        let policies = view.policies_of(&destination.name)?;
        let workload = view.workload(&source.name)?;
        let ip = workload.ips.iter().find(|ip| ip.is_ipv4() == address.is_ipv4())?;
        let request = request(&source, *ip, address);
        let verdict = evaluate(&policies, &request);
        let standing = Standing::Open;
        verdict.allowed().then_some(Self { source, destination, address, verdict, standing, request, unused: 0 })
    }

    /// Whether both pods are still what they were when the verdict was given.
    fn holds(&self, view: &MeshView, local: &LocalPods) -> bool {
        let serves = |ip: IpAddr, party: &Party| {
            let carried = local.get(&ip).is_some_and(|pod| party.is(pod));
            let known = view.workload_at(ip).filter(|workload| workload.pod == party.name && workload.is_enrolled());
            carried && known.is_some_and(|workload| workload.identity == party.identity)
        };
        serves(self.request.source_ip(), &self.source) && serves(self.address.ip(), &self.destination)
    }

    fn review(&mut self, view: &MeshView, local: &LocalPods) {
        if matches!(self.standing, Standing::Revoked(_)) {
            return;
        }
        if self.standing == Standing::Open && !self.holds(view, local) {
            self.standing = Standing::Closed;
        }
        let Some(policies) = view.policies_of(&self.destination.name) else { return };
        let now = identity_of(&self.source.name, view);
        let verdict = standing(&policies, &self.request, Some(&now));
        if verdict.allowed() {
            self.verdict = verdict;
        } else {
            self.standing = Standing::Revoked(Some(verdict));
        }
    }
}

impl Party {
    fn is(&self, pod: &LocalPod) -> bool {
        pod.netns().cookie() == self.netns.cookie() && pod.name == self.name && pod.identity == self.identity
    }
}

impl From<&Arc<LocalPod>> for Party {
    fn from(pod: &Arc<LocalPod>) -> Self {
        let (name, identity) = (pod.name.clone(), pod.identity.clone());
        Self { name, identity, netns: pod.share_netns(), drain: pod.drain.clone() }
    }
}

fn request(source: &Party, ip: IpAddr, address: SocketAddr) -> Request {
    Request::new(Some(source.identity.clone()), ip, address)
}
