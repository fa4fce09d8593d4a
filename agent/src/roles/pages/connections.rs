//! `/connections`: what the data-plane threads carry at this moment, and what goes directly from pod to pod.
//!
//! Each thread is asked for a piece of its table at a time; it goes on with its connections in between. So is, as one more, whoever
//! keeps the table of direct connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

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

/// How long one of them may take to answer. One that is that busy is left out.
const PATIENCE: Duration = Duration::from_secs(2);

/// A place behind the end of every table.
const END: usize = usize::MAX;

/// The way to all tables of connections.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Those of the data-plane threads.
    pub threads: Arc<Questions<Command>>,
    /// That of direct connections.
    pub direct: mpsc::Sender<Look>,
}

/// The page.
pub(super) fn page(tables: &Tables, query: &str) -> impl Future<Output = Page> + Send + use<> {
    let filter = Filter::parse(query);
    let tables = tables.clone();
    async move {
        match filter {
            Err(error) => Page::text(400, format!("{error}\n")),
            Ok(filter) => match serde_json::to_string_pretty(&collect(&tables, &filter).await) {
                Ok(body) => Page::json(body + "\n"),
                Err(error) => Page::text(500, format!("{error}\n")),
            },
        }
    }
}

/// How many connections there are.
pub(super) async fn total(tables: &Tables) -> usize {
    let mut total = 0;
    for table in 0..tables.number() {
        total += tables.look(table, END).await.map_or(0, |seen| seen.total);
    }
    total
}

async fn collect(tables: &Tables, filter: &Filter) -> Connections {
    let limit = filter.limit.unwrap_or(USUAL_LIMIT);
    let start = filter.after.unwrap_or_default();
    let mut found = Connections { total: total(tables).await, ..Connections::default() };
    for table in start.table..tables.number() {
        let mut from = Some(if table == start.table { start.place } else { 0 });
        while let Some(place) = from {
            let Some(seen) = tables.look(table, place).await else { break };
            for (place, open) in &seen.connections {
                let line = line(open);
                if !filter.fits(&line) {
                    continue;
                }
                if found.connections.len() == limit {
                    found.next = Some(Cursor { table, place: *place }.to_text());
                    return found;
                }
                found.connections.push(line);
            }
            from = seen.next;
        }
    }
    found
}

impl Tables {
    fn number(&self) -> usize {
        self.threads.threads() + 1
    }

    async fn look(&self, table: usize, from: usize) -> Option<Seen> {
        let (answer, seen) = oneshot::channel();
        let look = Look { from, answer };
        if table < self.threads.threads() {
            self.threads.ask(table, Command::Look(look));
            return tokio::time::timeout(PATIENCE, seen).await.ok()?.ok();
        }
        let asked = async {
            self.direct.send(look).await.ok()?;
            seen.await.ok()
        };
        tokio::time::timeout(PATIENCE, asked).await.ok()?
    }
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
