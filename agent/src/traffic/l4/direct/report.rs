//! What is told of direct connections: the same counters and access-log lines, of both sides, as of those that the agent relays.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::grants::{Grant, Grants, Party, Standing};
use super::measure;
use super::namespaces::Namespaces;
use crate::drivers::redirect::{EndedFlow, Ending, Ends, OpenFlow};
use crate::model::identity::Identity;
use crate::model::policy::evaluate::{Reason, Verdict};
use crate::model::view::{Destination, MeshView};
use crate::model::workload::Workload;
use crate::telemetry::labels::{Reporter, ResponseFlags};
use crate::traffic::l4::context::Context;
use crate::traffic::l4::record::{Connection, Protocol, Record};
use crate::traffic::l4::relay::RelayError;

/// Looks in a row that have not seen a connection whose end was not told; ends are told within moments.
const LOST_LOOKS: u32 = 3;

/// What tells one connection from another that has its addresses and ports later.
type Key = (SocketAddr, SocketAddr, Duration);

/// Connections that are told of while they are open.
#[derive(Debug, Default)]
pub(super) struct Reports {
    open: HashMap<Key, Told>,
    /// Where they are in this thread's list of what is open, each as its two sides.
    places: BTreeMap<usize, Key>,
    /// Those that are to be measured in this round.
    due: Vec<Key>,
    look: u32,
}

#[derive(Debug)]
struct Told {
    records: [Record; 2],
    flow: OpenFlow,
    seen: u32,
}

impl Reports {
    /// Counts connections as opened that were open already when they were looked at last, and that nobody has counted yet; short ones
    /// are counted when they have ended. Of one that is gone and whose end nobody told, there was no room for the message.
    pub(super) fn note_open(&mut self, context: &Context, grants: &Grants, open: &[OpenFlow], now: Duration) {
        self.look = self.look.wrapping_add(1);
        for flow in open.iter().filter(|flow| flow.established) {
            let key = key(&flow.ends);
            if let Some(told) = self.open.get_mut(&key) {
                told.seen = self.look;
                continue;
            }
            let begun = before(now.saturating_sub(flow.ends.began));
            let records = opened(context, grants.get(flow.ends.grant), &flow.ends, begun);
            self.places.extend(records.each_ref().map(|record| (record.place(), key)));
            self.open.insert(key, Told { records, flow: *flow, seen: self.look });
        }
        let lost = |told: &Told| self.look.wrapping_sub(told.seen) > LOST_LOOKS;
        let lost: Vec<_> = self.open.iter().filter(|(_, told)| lost(told)).map(|(key, _)| *key).collect();
        for key in lost {
            let untold = "how it ended is not known: too many connections of this node ended at once";
            let result = Err(RelayError::Socket(io::Error::other(untold)));
            self.take(&key).into_iter().flatten().for_each(|record| record.closed(&result));
        }
    }

    /// Begins to measure everything that is open, unless it is under way.
    pub(super) fn begin_round(&mut self) {
        if self.due.is_empty() {
            self.due.extend(self.open.keys());
        }
    }

    /// Whether [`Self::measure_some`] has something to do.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Measures so many of those that are due.
    pub(super) fn measure_some(&mut self, grants: &Grants, number: usize) -> io::Result<()> {
        let rest = self.due.len().saturating_sub(number);
        let keys = self.due.split_off(rest);
        self.measure(grants, keys)
    }

    /// Measures those that are at these places of this thread's list.
    pub(super) fn measure_at(&self, grants: &Grants, places: Range<usize>) -> io::Result<()> {
        // Most have both their sides there.
        let keys: BTreeSet<_> = self.places.range(places).map(|(_, key)| *key).collect();
        self.measure(grants, keys)
    }

    /// All are tried; the last error counts.
    fn measure(&self, grants: &Grants, keys: impl IntoIterator<Item = Key>) -> io::Result<()> {
        let (mut namespaces, mut result) = (Namespaces::default(), Ok(()));
        for Told { records: [record, _], flow, .. } in keys.into_iter().filter_map(|key| self.open.get(&key)) {
            match measure::bytes(grants, flow, &mut namespaces) {
                Ok(bytes) => bytes.into_iter().for_each(|bytes| note(record, bytes)),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Counts and logs a connection that has ended.
    pub(super) fn ended(&mut self, context: &Context, grant: Option<&Grant>, end: &EndedFlow) {
        let begun = before(end.lasted);
        let records = match (self.take(&key(&end.ends)), end.ending) {
            (Some(records), _) => records,
            (None, Ending::Refused | Ending::Strayed) => {
                let [source, _] = both(context, grant, &end.ends);
                return source.failed(context, begun, ResponseFlags::Connect, &failure(end));
            }
            (None, Ending::Closed | Ending::Aborted) => opened(context, grant, &end.ends, begun),
        };
        let result = result(grant, end.ending);
        note(&records[0], (end.from_client, end.from_server));
        records.into_iter().for_each(|record| record.closed(&result));
    }

    fn take(&mut self, key: &Key) -> Option<[Record; 2]> {
        let Told { records, .. } = self.open.remove(key)?;
        for record in &records {
            self.places.remove(&record.place());
        }
        Some(records)
    }
}

/// Both sides of a connection, with the bytes that they share.
fn opened(context: &Context, grant: Option<&Grant>, ends: &Ends, begun: Instant) -> [Record; 2] {
    let [source, destination] = both(context, grant, ends);
    let source = source.opened(context, begun);
    let destination = source.beside(destination);
    [source, destination]
}

/// Takes over what a connection has carried, for both sides.
fn note(record: &Record, (from_client, from_server): (u64, u64)) {
    record.traffic().from_client.set(from_client);
    record.traffic().from_server.set(from_server);
}

fn key(ends: &Ends) -> Key {
    (ends.client, ends.server, ends.began)
}

fn before(age: Duration) -> Instant {
    let now = Instant::now();
    now.checked_sub(age).unwrap_or(now)
}

fn failure(end: &EndedFlow) -> String {
    let server = end.ends.server;
    match end.ending {
        Ending::Strayed => format!("connection to {server} cut off: it was not the pod of this node that answered"),
        Ending::Refused | Ending::Closed | Ending::Aborted => {
            format!("connection to {server} refused, or not answered; does anything listen there?")
        }
    }
}

fn result(grant: Option<&Grant>, ending: Ending) -> Result<(), RelayError> {
    if ending == Ending::Closed {
        return Ok(());
    }
    match grant.map(|grant| &grant.standing) {
        Some(Standing::Revoked(Some(verdict))) => Err(RelayError::Revoked(verdict.clone())),
        _ => Err(RelayError::Socket(io::ErrorKind::ConnectionReset.into())),
    }
}

/// The connection as its source and as its destination tell of it.
fn both(context: &Context, grant: Option<&Grant>, ends: &Ends) -> [Connection; 2] {
    let view = context.view();
    let mut source = Connection::between(Reporter::Source, ends.client, ends.server);
    source.protocol = Protocol::Direct;
    source.source_workload = workload(&view, grant.map(|grant| &grant.source), ends.client);
    source.destination_workload = workload(&view, grant.map(|grant| &grant.destination), ends.server);
    source.source_identity = identity(grant.map(|grant| &grant.source), source.source_workload.as_ref());
    source.destination_identity = identity(grant.map(|grant| &grant.destination), source.destination_workload.as_ref());
    source.service = match view.destination(ends.asked) {
        Destination::Service(service, _) => Some(service),
        Destination::Workload(_, service) => service,
        Destination::UnknownPort(_) | Destination::External => None,
    };
    let verdict = grant.map_or(UNKNOWN, |grant| grant.verdict.clone());
    let destination = source.arrived(verdict);
    [source, destination]
}

/// Of a connection that ended while no agent ran nobody knows what let it in.
const UNKNOWN: Verdict = Verdict { reason: Reason::NoAllowPolicy, decided_by: None };

fn workload(view: &MeshView, party: Option<&Party>, address: SocketAddr) -> Option<Arc<Workload>> {
    party.and_then(|party| view.workload(&party.name)).or_else(|| view.workload_at(address.ip())).cloned()
}

fn identity(party: Option<&Party>, workload: Option<&Arc<Workload>>) -> Option<Identity> {
    party.map(|party| &party.identity).or_else(|| workload.map(|workload| &workload.identity)).cloned()
}
