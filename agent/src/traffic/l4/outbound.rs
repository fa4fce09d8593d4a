//! Connections that an enrolled pod makes: from the original destination to a relay.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::admission::Admission;
use super::pod::{Accepted, PodShard};
use super::record::{Connection, Protocol, Record};
use super::relay;
use crate::drivers::redirect::Wanted;
use crate::drivers::tunnel::stream::Stream;
use crate::drivers::tunnel::{ConnectRequest, FirstBytes};
use crate::mesh::upstream::attempts::{Attempts, Next, Retry};
use crate::mesh::upstream::dial::{self, DialError};
use crate::mesh::upstream::options;
use crate::mesh::upstream::pool::{Key, OpenFailure};
use crate::mesh::upstream::route::{self, HBONE_PORT, Hop, NoRoute};
use crate::model::address::canonical;
use crate::model::forwarded::Forwarded;
use crate::model::policy::evaluate::Verdict;
use crate::model::policy::rule::Request;
use crate::model::workload::Workload;
use crate::runtime::budget::Permit;
use crate::runtime::rate::RateLimit;
use crate::telemetry::labels::{Reporter, ResponseFlags, SecurityPolicy};

static STRAYS: RateLimit = RateLimit::new(5, Duration::from_secs(10));

/// Carries one captured connection to where its application wanted to go.
pub fn handle(shard: Rc<PodShard>, accepted: Accepted) -> impl Future<Output = ()> {
    // Boxed: what it takes to reach a server is many times what it takes to relay, and is needed for a moment only.
    let beginning = Box::pin(begin(Rc::clone(&shard), accepted));
    async move {
        let Some(Begun { client, peer, upstream, records: (record, beside), _permit }) = beginning.await else {
            return;
        };
        let result = match upstream {
            Upstream::Tunnel(mut stream) => {
                let _counted = shard.context.metrics.tunnels.stream();
                stream.charge(&shard.pod.shares.memory);
                relay::to_tunnel(client, stream, record.traffic()).await
            }
            // Boxed: a connection takes as much memory as its largest way, and tunnels need less.
            Upstream::Plain(server) => {
                Box::pin(relay::sockets(client, server, record.traffic(), std::future::pending())).await
            }
            Upstream::SameNode(server, mut admission) => {
                Box::pin(relay::sockets(client, server, record.traffic(), admission.revoked())).await
            }
        };
        shard.note_end(peer, result.as_ref().err());
        [Some(record), beside].into_iter().flatten().for_each(|record| record.closed(&result));
    }
}

/// A captured connection that has a way to its server.
struct Begun {
    client: TcpStream,
    peer: SocketAddr,
    upstream: Upstream,
    /// What is told of it, from this side, and from the other where that is this agent's, too.
    records: (Record, Option<Record>),
    _permit: Permit,
}

async fn begin(shard: Rc<PodShard>, accepted: Accepted) -> Option<Begun> {
    let Accepted { socket: client, peer, at, permit } = accepted;
    let Wanted { destination: original, picked } = original_destination(&shard, peer)?;
    let mut connection = Connection::between(Reporter::Source, peer, original);
    connection.source_workload = shard.context.view().workload(&shard.pod.name).cloned();
    connection.source_identity = Some(shard.pod.identity.clone());
    match reach(&shard, (original, picked), (&client, peer), &mut connection).await {
        Ok(upstream) => {
            let arrived = upstream.admission().map(|admission| connection.arrived(admission.verdict.clone()));
            let record = connection.opened(&shard.context, at);
            let beside = arrived.map(|connection| record.beside(connection));
            Some(Begun { client, peer, upstream, records: (record, beside), _permit: permit })
        }
        Err(failure) => {
            if let Failure::Denied(verdict) = &failure {
                connection.arrived(verdict.clone()).denied(&shard.context, at, verdict.clone());
            }
            connection.failed(&shard.context, at, failure.flags(), &failure);
            None
        }
    }
}

/// A connection without a note of its destination did not come through the capture: the application dialled the agent's own
/// port, or the map of notes was full. Either way there is nowhere to take it.
fn original_destination(shard: &PodShard, peer: SocketAddr) -> Option<Wanted> {
    let problem = match shard.context.sockets.take_original_destination(shard.pod.netns().cookie(), peer) {
        Ok(Some(Wanted { destination, picked })) => {
            return Some(Wanted { destination: canonical(destination), picked: picked.map(canonical) });
        }
        Ok(None) => "no note of it; did the application dial port 15001 itself, or is the map of notes full (sotto_bpf_map_entries)?".to_owned(),
        Err(error) => format!("the kernel does not tell the original destination: {error}"),
    };
    if let Some(suppressed) = STRAYS.allow(Instant::now()) {
        tracing::warn!(pod = %shard.pod.name, %peer, suppressed, problem, "a connection of this pod was reset: where it wanted to go is not known");
    }
    None
}

/// A way to the server.
enum Upstream {
    Plain(TcpStream),
    SameNode(TcpStream, Admission),
    Tunnel(Stream),
}

impl Upstream {
    /// Where both pods are this agent's own, it speaks for the server's side, too.
    fn admission(&self) -> Option<&Admission> {
        match self {
            Self::SameNode(_, admission) => Some(admission),
            Self::Plain(_) | Self::Tunnel(_) => None,
        }
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Route(#[from] NoRoute),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Tunnel(#[from] OpenFailure),
    #[error("{0}; not tried again: what the client had sent may have reached the server")]
    Uncertain(OpenFailure),
    #[error("pod {0} of this node is not ready to be reached: it is still joining the mesh")]
    Joining(String),
    #[error("{0}")]
    Denied(Verdict),
}

impl Failure {
    fn retry(&self) -> Retry {
        match self {
            Self::Route(_) | Self::Dial(DialError::Local { .. }) | Self::Denied(_) | Self::Uncertain(_) => Retry::Never,
            Self::Dial(_) => Retry::Elsewhere,
            Self::Tunnel(failure) => failure.retry(),
            Self::Joining(_) => Retry::Again,
        }
    }

    fn flags(&self) -> ResponseFlags {
        match self {
            Self::Route(_) | Self::Dial(_) | Self::Joining(_) => ResponseFlags::Connect,
            Self::Tunnel(failure) | Self::Uncertain(failure) => failure.flags(),
            Self::Denied(_) => ResponseFlags::Deny,
        }
    }
}

/// Tries endpoints until one is reached, first the one that the programs have picked for a service. The mesh is looked at anew before each attempt: what was unreachable may have moved.
async fn reach(
    shard: &PodShard,
    (original, picked): (SocketAddr, Option<SocketAddr>),
    (socket, client): (&TcpStream, SocketAddr),
    connection: &mut Connection,
) -> Result<Upstream, Failure> {
    let mut attempts = Attempts::new(shard.context.patience.clone(), Instant::now()).beginning_with(picked);
    let mut last = None;
    loop {
        let view = shard.context.view();
        let route = route::route(&view, original)?;
        connection.service = route.service;
        match attempts.next(&route.candidates, Instant::now(), |below| fastrand::usize(..below)) {
            Next::Try(address, limit) => {
                let hop = route::hop(&view, &shard.context.node, address)?;
                match take(shard, &hop, Target { address, asked: original, client, socket, limit }, connection).await {
                    Ok(upstream) => return Ok(upstream),
                    Err(failure) => {
                        tracing::debug!(pod = %shard.pod.name, %original, %address, error = %failure, "attempt failed");
                        attempts.failed(address, failure.retry());
                        last = Some(failure);
                    }
                }
            }
            Next::Wait(pause) => tokio::time::sleep(pause).await,
            Next::GiveUp => {
                return Err(last.unwrap_or(Failure::Dial(DialError::TimedOut {
                    address: original,
                    limit: shard.context.patience.overall,
                })));
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Target<'a> {
    address: SocketAddr,
    /// What the client asked for.
    asked: SocketAddr,
    client: SocketAddr,
    /// The client's.
    socket: &'a TcpStream,
    limit: Duration,
}

async fn take(
    shard: &PodShard,
    hop: &Hop,
    target: Target<'_>,
    connection: &mut Connection,
) -> Result<Upstream, Failure> {
    connection.destination = target.address;
    connection.hbone_target = None;
    connection.destination_identity = None;
    connection.security = SecurityPolicy::Unknown;
    connection.protocol = match hop {
        Hop::Plain(_) => Protocol::Plain,
        Hop::SameNode(_) => Protocol::SameNode,
        Hop::Tunnel(_) => Protocol::Hbone,
    };
    match hop {
        Hop::Plain(workload) => {
            connection.destination_workload.clone_from(workload);
            let sockets = &shard.context.sockets;
            Ok(Upstream::Plain(
                dial::connect(&shard.pod, sockets, (target.address, options::of_stranger), target.limit).await?,
            ))
        }
        Hop::SameNode(workload) => {
            connection.destination_workload = Some(std::sync::Arc::clone(workload));
            connection.destination_identity = Some(workload.identity.clone());
            let (server, admission) = same_node(shard, workload, target).await?;
            Ok(Upstream::SameNode(server, admission))
        }
        Hop::Tunnel(workload) => {
            connection.destination_workload = Some(std::sync::Arc::clone(workload));
            connection.destination = SocketAddr::new(target.address.ip(), HBONE_PORT);
            connection.hbone_target = Some(target.address.into());
            let stream = tunnel(shard, workload, target, connection).await?;
            connection.destination_identity = Some(workload.identity.clone());
            connection.security = SecurityPolicy::MutualTls;
            connection.protocol = match stream {
                Stream::Hbone(_) => Protocol::Hbone,
                Stream::Mux(_) => Protocol::Sotto,
            };
            Ok(Upstream::Tunnel(stream))
        }
    }
}

/// Both pods are this agent's own: it vouches for either side, and no byte leaves the node.
async fn same_node(
    shard: &PodShard,
    workload: &Workload,
    target: Target<'_>,
) -> Result<(TcpStream, Admission), Failure> {
    let local = shard.context.local.borrow().get(&target.address.ip()).cloned();
    let pod = local.ok_or_else(|| Failure::Joining(workload.pod.to_string()))?;
    let client = shard.pod.ip_like(target.address.ip()).or(Some(target.client.ip()));
    let client = client.filter(|ip| ip.is_ipv4() == target.address.is_ipv4());
    let source_ip = client.unwrap_or(target.client.ip());
    let asked = Request::new(Some(shard.pod.identity.clone()), source_ip, target.address);
    let admission = shard.admissions.admit(&pod.name, asked).map_err(Failure::Denied)?;
    let dialling = dial::connect_application(&pod, &shard.context.sockets, client, target.address, target.limit);
    if target.asked == target.address {
        // The next ones go directly, also to hear from the pod itself that nobody listens there.
        shard.context.direct.ask(&shard.pod, &pod, target.address);
        return Ok((dialling.await?, admission));
    }
    // An endpoint that does not answer would fail a direct connection; the agent finds another.
    let server = dialling.await?;
    shard.context.direct.ask(&shard.pod, &pod, target.address);
    Ok((server, admission))
}

async fn tunnel(
    shard: &PodShard,
    workload: &Workload,
    target: Target<'_>,
    connection: &Connection,
) -> Result<Stream, Failure> {
    let key = Key { address: SocketAddr::new(target.address.ip(), HBONE_PORT), identity: workload.identity.clone() };
    let request = ConnectRequest {
        authority: target.address.into(),
        baggage: connection
            .source_workload
            .as_ref()
            .map(|workload| shard.described.of(workload, &shard.context.cluster))
            .unwrap_or_default(),
        forwarded: Some(Forwarded {
            client: Some(target.client),
            host: connection.service.as_deref().map(|service| service.hostname().into()),
        }),
        traceparent: None,
    };
    let first = FirstBytes::of(target.socket);
    match shard.pool.open(key, (&request, &first), target.limit).await {
        Ok(opened) => Ok(opened.stream),
        Err(failure) if first.are_under_way() => Err(Failure::Uncertain(failure)),
        Err(failure) => Err(failure.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Each open connection holds one: it is most of what an idle one costs.
    #[test]
    fn a_connections_task_is_small() {
        assert!(size(handle) <= 1536, "{} bytes", size(handle));
    }
}
