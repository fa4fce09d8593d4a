//! The objects as they are known, each in its last good version, and what is wrong with its newest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::drivers::cluster::follow::{Key, Update};
use crate::mesh::source::convert::annotations::{REDIRECTION, REDIRECTION_ENABLED};
use crate::mesh::source::convert::mesh::{Mesh, Objects, Rules, mesh};
use crate::mesh::source::objects::kind::{Kind, Object, ObjectRef};
use crate::mesh::source::objects::pod::PodIp;
use crate::mesh::source::problem::{Effect, Fault, Problem};
use crate::mesh::source::shared::Shared;
use crate::mesh::source::slim::slim;
use crate::model::arrival::Arrivals;

use super::decode::Decoded;

/// Problems beyond this number are counted, not listed.
const MAX_PROBLEMS: usize = 200;

/// Everything that the API server has told.
#[derive(Debug, Default)]
pub(super) struct Store {
    kinds: BTreeMap<Kind, Collection>,
    /// What objects have in common.
    shared: Shared,
}

/// All objects of one kind.
#[derive(Debug, Default)]
struct Collection {
    entries: BTreeMap<Key, Entry>,
    /// Counts the lists that have begun.
    lists: u64,
    complete: bool,
    /// Why there is nothing new.
    trouble: Option<String>,
}

/// One object.
#[derive(Debug)]
struct Entry {
    /// The last good version; of a policy, the newest if there was no good one.
    object: Option<Object>,
    faults: Vec<Fault>,
    /// Whether `object` has no faults.
    good: bool,
    /// The list that it was last seen in or after.
    list: u64,
}

impl Store {
    /// Takes an update in. Whether the mesh may be another one now.
    pub(super) fn update(&mut self, kind: Kind, update: Update<Decoded>) -> bool {
        let collection = self.kinds.entry(kind).or_default();
        match update {
            Update::Restart => {
                collection.lists += 1;
                false
            }
            Update::Present(key, mut decoded) => {
                decoded.object.iter_mut().for_each(|object| slim(object, &mut self.shared));
                collection.present(key, decoded)
            }
            Update::Absent(key) => collection.entries.remove(&key).is_some(),
            Update::Complete => {
                let (before, list) = (collection.entries.len(), collection.lists);
                collection.entries.retain(|_, entry| entry.list == list);
                let first = !std::mem::replace(&mut collection.complete, true);
                first || before != collection.entries.len()
            }
            Update::NotServed => {
                let first = !std::mem::replace(&mut collection.complete, true);
                let had = !std::mem::take(&mut collection.entries).is_empty();
                first || had
            }
            Update::Trouble(trouble) => {
                let trouble = trouble.map(|error| error.to_string());
                let news = trouble != collection.trouble;
                collection.trouble = trouble;
                news
            }
        }
    }

    /// Drops what is kept of objects that are gone.
    pub(super) fn forget_gone(&mut self) {
        self.shared.forget_unused();
    }

    /// Whether the first list of this kind is complete.
    pub(super) fn is_complete(&self, kind: Kind) -> bool {
        self.kinds.get(&kind).is_some_and(|collection| collection.complete)
    }

    /// How many objects there are of all kinds.
    pub(super) fn len(&self) -> usize {
        self.kinds.values().map(|collection| collection.entries.len()).sum()
    }

    /// The mesh that all objects make together, with everything that is wrong. Pods that have no address yet have those with which
    /// they arrived.
    pub(super) fn mesh(&self, rules: &Rules, arrivals: &Arrivals) -> Mesh {
        let all = || self.kinds.values().flat_map(|collection| collection.entries.values());
        let arrived: Vec<Object> = all().filter_map(|entry| with_address(entry.object.as_ref()?, arrivals)).collect();
        let mut objects = Objects::default();
        let told = all().filter_map(|entry| entry.object.as_ref());
        told.filter(|object| with_address(object, arrivals).is_none())
            .chain(&arrived)
            .for_each(|object| objects.add(object));
        let mut mesh = mesh(&objects, rules);
        mesh.problems.extend(self.faults());
        mesh.problems.sort();
        mesh.problems.dedup();
        let beyond = mesh.problems.len().saturating_sub(MAX_PROBLEMS);
        if beyond > 0 {
            // What may hide a pod decides about more than a page for operators: it is never cut off.
            mesh.problems.sort_by_key(|problem| !problem.may_hide_pods());
            mesh.problems.truncate(MAX_PROBLEMS);
            let message = format!("{beyond} more problems");
            mesh.problems.push(Problem { message, effect: Effect::Notice, ..Problem::default() });
        }
        mesh.problems.splice(0..0, self.troubles());
        mesh
    }

    /// UIDs of the pods of `node` whose annotation says that they are carried.
    pub(super) fn marked(&self, node: &str) -> BTreeSet<Arc<str>> {
        let pods = self.kinds.get(&Kind::Pod).into_iter().flat_map(|collection| collection.entries.values());
        let marked = pods.filter_map(|entry| {
            let Some(Object::Pod(pod)) = &entry.object else { return None };
            let value = pod.metadata.annotations.get(REDIRECTION).filter(|_| pod.spec.node_name == node)?;
            (value == REDIRECTION_ENABLED).then(|| pod.metadata.uid.as_str().into())
        });
        marked.collect()
    }

    /// What keeps news from arriving, each once for all the kinds that it concerns.
    fn troubles(&self) -> Vec<Problem> {
        let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (kind, collection) in &self.kinds {
            collection.trouble.iter().for_each(|trouble| kinds.entry(trouble).or_default().push(kind.name()));
        }
        let problem = |(trouble, kinds): (&str, Vec<&str>)| Problem {
            message: format!("{trouble}; nothing new is known of {}", kinds.join(", ")),
            effect: Effect::LastGoodServes,
            ..Problem::default()
        };
        kinds.into_iter().map(problem).collect()
    }

    fn faults(&self) -> impl Iterator<Item = Problem> {
        self.kinds.iter().flat_map(|(kind, collection)| {
            collection.entries.iter().flat_map(move |(key, entry)| {
                let effect = if entry.good { Effect::LastGoodServes } else { Effect::LeftOut };
                let object = ObjectRef::new(*kind, &key.namespace, &key.name);
                let problem = move |fault: &Fault| Problem { effect, ..fault.clone().of(object.clone()) };
                entry.faults.iter().map(problem)
            })
        })
    }
}

impl Collection {
    fn present(&mut self, key: Key, decoded: Decoded) -> bool {
        let list = self.lists;
        let Decoded { object, faults } = decoded;
        let Some(entry) = self.entries.get_mut(&key) else {
            let good = faults.is_empty();
            // The conversion makes a policy that is wrong one that fails closed.
            let object = object.filter(|object| good || object.is_policy());
            self.entries.insert(key, Entry { object, faults, good, list });
            return true;
        };
        entry.list = list;
        if faults.is_empty() {
            let changed = entry.object != object || !entry.faults.is_empty();
            (entry.object, entry.good) = (object, true);
            entry.faults = faults;
            return changed;
        }
        let keeps = entry.good && !is_another(entry.object.as_ref(), object.as_ref());
        if !keeps {
            entry.object = object.filter(Object::is_policy);
            entry.good = false;
        }
        let changed = entry.faults != faults || !keeps;
        entry.faults = faults;
        changed
    }
}

/// A pod without an address with those of its sandbox; none where there is nothing to add.
fn with_address(object: &Object, arrivals: &Arrivals) -> Option<Object> {
    let Object::Pod(pod) = object else { return None };
    let arrival = arrivals.get(pod.metadata.uid.as_str())?;
    if !pod.status.pod_ips.is_empty() || !pod.status.pod_ip.is_empty() {
        return None;
    }
    let mut pod = pod.clone();
    pod.status.pod_ips = arrival.ips.iter().map(|ip| PodIp { ip: ip.to_string() }).collect();
    pod.status.pod_ip = arrival.ips.first().map(ToString::to_string).unwrap_or_default();
    Some(Object::Pod(pod))
}

/// Whether a pod has taken the place of another of the same name: nothing of that one serves for it.
fn is_another(old: Option<&Object>, new: Option<&Object>) -> bool {
    match (old, new) {
        (Some(Object::Pod(old)), Some(Object::Pod(new))) => old.metadata.uid != new.metadata.uid,
        _ => false,
    }
}
