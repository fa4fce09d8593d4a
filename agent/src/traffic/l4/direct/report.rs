//! What is told of direct connections: the same counters and access-log lines, of both sides, as of those that the agent relays.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::grants::{Grant, Grants, Party, Standing};
use crate::drivers::redirect::{EndedFlow, Ending, Ends, OpenFlow};
use crate::model::identity::Identity;
use crate::model::policy::evaluate::{Reason, Verdict};
use crate::model::view::{Destination, MeshView};
use crate::model::workload::Workload;
use crate::telemetry::labels::{Reporter, ResponseFlags};
use crate::traffic::l4::context::Context;
use crate::traffic::l4::record::{Connection, Record};
use crate::traffic::l4::relay::RelayError;

/// Connections that are told of while they are open, by their two ends.
#[derive(Debug, Default)]
pub(super) struct Reports(HashMap<(SocketAddr, SocketAddr, Duration), [Record; 2]>);

impl Reports {
    /// Counts connections as opened that were open already when they were looked at last, and that nobody has counted yet; short ones
    /// are counted when they have ended.
    pub(super) fn note_open(&mut self, context: &Context, grants: &Grants, open: &[OpenFlow], now: Duration) {
        for flow in open.iter().filter(|flow| flow.established) {
            let entry = self.0.entry(key(&flow.ends));
            entry.or_insert_with(|| {
                let begun = before(now.saturating_sub(flow.ends.began));
                both(context, grants.get(flow.ends.grant), &flow.ends).map(|side| side.opened(context, begun))
            });
        }
    }

    /// Counts and logs a connection that has ended.
    pub(super) fn ended(&mut self, context: &Context, grant: Option<&Grant>, end: &EndedFlow) {
        let begun = before(end.lasted);
        let records = match (self.0.remove(&key(&end.ends)), end.ending) {
            (Some(records), _) => records,
            (None, Ending::Refused | Ending::Strayed) => {
                let [source, _] = both(context, grant, &end.ends);
                return source.failed(context, begun, ResponseFlags::Connect, &failure(end));
            }
            (None, Ending::Closed | Ending::Aborted) => {
                both(context, grant, &end.ends).map(|side| side.opened(context, begun))
            }
        };
        let result = result(grant, end.ending);
        for record in records {
            record.traffic().from_client.set(end.from_client);
            record.traffic().from_server.set(end.from_server);
            record.closed(&result);
        }
    }
}

fn key(ends: &Ends) -> (SocketAddr, SocketAddr, Duration) {
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
