//! `/connections`: what the data-plane threads carry at this moment.
//!
//! Each thread is asked for a piece of its table at a time; it goes on with its connections in between.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::control::diagnose::connections::{
    ConnectionLine, Connections, Cursor, Direction, Filter, PeerLine, USUAL_LIMIT,
};
use crate::drivers::admin::server::Page;
use crate::model::policy::evaluate::Verdict;
use crate::model::service::Service;
use crate::model::workload::Workload;
use crate::runtime::shards::Questions;
use crate::telemetry::labels::Reporter;
use crate::traffic::l4::live::{Look, Open, Seen};
use crate::traffic::l4::shard::Command;

/// How long a thread may take to answer. One that is that busy is left out.
const PATIENCE: Duration = Duration::from_secs(2);

/// A place behind the end of every table.
const END: usize = usize::MAX;

/// The way to the data-plane threads.
pub(super) type Threads = Arc<Questions<Command>>;

/// The page.
pub(super) fn page(threads: &Threads, query: &str) -> impl Future<Output = Page> + Send + use<> {
    let filter = Filter::parse(query);
    let threads = Arc::clone(threads);
    async move {
        match filter {
            Err(error) => Page::text(400, format!("{error}\n")),
            Ok(filter) => match serde_json::to_string_pretty(&collect(&threads, &filter).await) {
                Ok(body) => Page::json(body + "\n"),
                Err(error) => Page::text(500, format!("{error}\n")),
            },
        }
    }
}

/// How many connections there are.
pub(super) async fn total(threads: &Threads) -> usize {
    let mut total = 0;
    for thread in 0..threads.threads() {
        total += look(threads, thread, END).await.map_or(0, |seen| seen.total);
    }
    total
}

async fn collect(threads: &Threads, filter: &Filter) -> Connections {
    let limit = filter.limit.unwrap_or(USUAL_LIMIT);
    let start = filter.after.unwrap_or_default();
    let mut found = Connections { total: total(threads).await, ..Connections::default() };
    for thread in start.thread..threads.threads() {
        let mut from = Some(if thread == start.thread { start.place } else { 0 });
        while let Some(place) = from {
            let Some(seen) = look(threads, thread, place).await else { break };
            for (place, open) in &seen.connections {
                let line = line(open);
                if !filter.fits(&line) {
                    continue;
                }
                if found.connections.len() == limit {
                    found.next = Some(Cursor { thread, place: *place }.to_text());
                    return found;
                }
                found.connections.push(line);
            }
            from = seen.next;
        }
    }
    found
}

async fn look(threads: &Threads, thread: usize, from: usize) -> Option<Seen> {
    let (answer, seen) = oneshot::channel();
    threads.ask(thread, Command::Look(Look { from, answer }));
    tokio::time::timeout(PATIENCE, seen).await.ok()?.ok()
}

fn line(open: &Open) -> ConnectionLine {
    let connection = &open.connection;
    let (direction, own) = match connection.reporter {
        Reporter::Source => (Direction::Outbound, &connection.source_workload),
        Reporter::Destination => (Direction::Inbound, &connection.destination_workload),
    };
    let pod = |workload: &Option<Arc<Workload>>| workload.as_ref().map(|workload| workload.pod.to_string());
    // A tunnel's address is the same for all that it carries.
    let target = connection.hbone_target.as_ref().and_then(|target| target.to_string().parse().ok());
    let source = PeerLine {
        address: connection.source,
        pod: pod(&connection.source_workload),
        identity: connection.source_identity.as_ref().map(ToString::to_string),
    };
    let destination = PeerLine {
        address: target.unwrap_or(connection.destination),
        pod: pod(&connection.destination_workload),
        identity: connection.destination_identity.as_ref().map(ToString::to_string),
    };
    ConnectionLine {
        pod: pod(own).unwrap_or_default(),
        direction: direction.name().to_owned(),
        protocol: connection.protocol.name().to_owned(),
        source,
        destination,
        service: connection.service.as_deref().map(Service::hostname),
        bytes_from_source: open.from_client,
        bytes_from_destination: open.from_server,
        age_ms: u64::try_from(open.age.as_millis()).unwrap_or(u64::MAX),
        policy: connection.verdict.as_ref().and_then(Verdict::policy).map(ToString::to_string),
    }
}
