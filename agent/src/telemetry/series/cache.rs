//! What each thread remembers: which series a pair of parties had last.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::table::{Series, Table};
use crate::model::identity::Identity;
use crate::model::service::Service;
use crate::model::workload::Workload;
use crate::telemetry::labels::{ConnectionLabels, Parties, Reporter, ResponseFlags, SecurityPolicy};

/// Pairs that a thread remembers. Past that it begins anew: at worst each connection then costs what the first of a pair does.
const PAIRS: usize = 2_048;

/// Parties by where they are in memory. Whoever is in the cache is kept alive by it, so that nobody else can be there.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    table: usize,
    source: usize,
    destination: usize,
    service: usize,
    source_identity: Who,
    destination_identity: Who,
    reporter: Reporter,
    security: SecurityPolicy,
    flags: ResponseFlags,
}

/// The identity that a party has proved.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Who {
    Nobody,
    /// The workload's own: the usual case.
    Itself,
    Other(Identity),
}

struct Known {
    series: Arc<Series>,
    _table: Arc<Table>,
    _workloads: [Option<Arc<Workload>>; 2],
    _service: Option<Arc<Service>>,
}

thread_local! {
    static KNOWN: RefCell<HashMap<Key, Known>> = RefCell::default();
}

/// Forgets all pairs of this thread, so that it does not keep alive for long what the mesh has dropped.
pub fn forget_parties() {
    KNOWN.take();
}

/// The series of these parties, with one more user.
pub(super) fn find(table: &Arc<Table>, parties: &Parties<'_>, flags: ResponseFlags) -> Arc<Series> {
    let key = Key::of(table, parties, flags);
    KNOWN.with_borrow_mut(|known| {
        if let Some(pair) = known.get(&key).filter(|pair| pair.series.enter()) {
            return Arc::clone(&pair.series);
        }
        let series = table.acquire(ConnectionLabels::new(parties, &table.cluster, flags));
        if known.len() >= PAIRS {
            known.clear();
        }
        let pair = Known {
            series: Arc::clone(&series),
            _table: Arc::clone(table),
            _workloads: [parties.source.cloned(), parties.destination.cloned()],
            _service: parties.service.cloned(),
        };
        known.insert(key, pair);
        series
    })
}

impl Key {
    fn of(table: &Arc<Table>, parties: &Parties<'_>, flags: ResponseFlags) -> Self {
        Self {
            table: Arc::as_ptr(table).addr(),
            source: place(parties.source),
            destination: place(parties.destination),
            service: place(parties.service),
            source_identity: who(parties.source_identity, parties.source),
            destination_identity: who(parties.destination_identity, parties.destination),
            reporter: parties.reporter,
            security: parties.security,
            flags,
        }
    }
}

/// 0 for nobody.
fn place<T>(party: Option<&Arc<T>>) -> usize {
    party.map_or(0, |party| Arc::as_ptr(party).addr())
}

fn who(identity: Option<&Identity>, workload: Option<&Arc<Workload>>) -> Who {
    match (identity, workload) {
        (None, _) => Who::Nobody,
        (Some(identity), Some(workload)) if workload.identity == *identity => Who::Itself,
        (Some(identity), _) => Who::Other(identity.clone()),
    }
}
