//! Tunnels to an enrolled pod: each of their streams is one connection to the application.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::admission::Admission;
use super::pod::{Accepted, PodShard};
use super::record::{Connection, Protocol, Record};
use super::relay;
use crate::drivers::certs::tls::handshake::{self, Established, HandshakeError};
use crate::drivers::certs::tls::records::RecordStream;
use crate::drivers::tunnel::server::{Incoming, Respond};
use crate::drivers::tunnel::stream::Stream;
use crate::drivers::tunnel::{Cause, ConnectRequest, Refusal};
use crate::drivers::tunnel::{hbone, mux};
use crate::mesh::upstream::dial::{self, DialError};
use crate::mesh::upstream::route::{HBONE_PORT, RESERVED_PORTS};
use crate::model::authority::Authority;
use crate::model::identity::Identity;
use crate::model::policy::rule::Request;
use crate::model::view::MeshView;
use crate::runtime::budget::Permit;
use crate::runtime::rate::RateLimit;
use crate::telemetry::labels::{Reporter, ResponseFlags, SecurityPolicy};
use crate::telemetry::metrics::Refused;

static BAD_PEERS: RateLimit = RateLimit::new(10, Duration::from_secs(10));

/// Peers close their idle tunnels themselves, after five minutes in this field. One that does not would hold its place for good.
const UNUSED_TUNNEL: Duration = Duration::from_secs(900);

/// Who speaks through a tunnel.
#[derive(Clone, Debug)]
struct Peer {
    address: SocketAddr,
    identity: Identity,
    protocol: Protocol,
}

/// Serves one tunnel from its TLS handshake to its last stream.
pub async fn handle(shard: Rc<PodShard>, accepted: Accepted) {
    let Accepted { socket, peer: address, permit: _permit, .. } = accepted;
    let Established { connection, peer: identity, protocol, .. } = match authenticate(&shard, address, socket).await {
        Ok(established) => established,
        Err(error) => {
            log_bad_peer(&shard, address, &error);
            let target = SocketAddr::new(shard.pod.ips[0], HBONE_PORT);
            let connection = Connection::between(Reporter::Destination, address, target);
            connection.count_failure(&shard.context, ResponseFlags::TlsFailure);
            return;
        }
    };
    let Some(_tunnel) = shard.peers.begin_tunnel(address.ip()) else {
        shard.refused(address, Refused::TunnelsPerPeer, &"the peer has too many tunnels to this pod");
        return;
    };
    let is_mux = protocol.as_deref() == Some(mux::PROTOCOL);
    let peer = Peer { address, identity, protocol: if is_mux { Protocol::Sotto } else { Protocol::Hbone } };
    let live = Cell::new(0);
    let drain = shard.pod.drain.clone();
    let wind_up = async {
        tokio::select! {
            () = drain.begun() => {}
            () = unused(&live) => {}
        }
    };
    let config = &shard.context.tunnel;
    let served = if is_mux {
        let serve = |incoming: mux::MuxIncoming| serve_request(&shard, &peer, &live, incoming.into());
        mux::serve(connection, config, wind_up, serve).await
    } else {
        let serve = |incoming: hbone::server::Incoming| serve_request(&shard, &peer, &live, incoming.into());
        Box::pin(hbone::server::serve(RecordStream::from(connection), config, wind_up, serve)).await
    };
    if let Err(error) = served {
        log_bad_peer(&shard, address, &error);
    }
}

async fn authenticate(
    shard: &PodShard,
    peer: SocketAddr,
    socket: TcpStream,
) -> Result<Established<TcpStream>, HandshakeError> {
    let (place, displaced) = shard.peers.begin_handshake(peer.ip());
    if let Some(limit) = displaced {
        shard.refused(peer, limit, &"too many handshakes are under way; the oldest was broken off for this one");
    }
    tokio::select! {
        done = handshake::accept(socket, &shard.pod.server, shard.context.handshake_limit) => done,
        () = place.evicted.cancelled() => Err(HandshakeError::Connection(io::ErrorKind::TimedOut.into())),
    }
}

/// Completes when a tunnel has had no stream for [`UNUSED_TUNNEL`], looked at every quarter of it.
async fn unused(live: &Cell<usize>) {
    let mut quarters = 0;
    while quarters < 4 {
        tokio::time::sleep(UNUSED_TUNNEL / 4).await;
        quarters = if live.get() == 0 { quarters + 1 } else { 0 };
    }
}

fn log_bad_peer(shard: &PodShard, peer: SocketAddr, error: &dyn std::fmt::Display) {
    if let Some(suppressed) = BAD_PEERS.allow(Instant::now()) {
        tracing::warn!(pod = %shard.pod.name, %peer, suppressed, %error, "tunnel from a peer failed");
    }
}

/// A request whose application has been reached.
struct Arrival {
    record: Record,
    admission: Admission,
    stream: Stream,
    server: TcpStream,
    _permit: Permit,
}

/// Serves one request for a connection, and counts it while it lasts.
fn serve_request(shard: &PodShard, peer: &Peer, live: &Cell<usize>, incoming: Incoming) -> impl Future<Output = ()> {
    // Boxed: what it takes to reach the application is more than what it takes to relay, and is needed for a moment only.
    let arriving = Box::pin(arrive(shard, peer, incoming));
    async move {
        live.set(live.get() + 1);
        if let Some(Arrival { record, mut admission, stream, server, _permit }) = arriving.await {
            let result = relay::from_tunnel(stream, server, record.traffic(), admission.revoked()).await;
            shard.note_end(peer.address, result.as_ref().err());
            record.closed(&result);
        }
        live.set(live.get() - 1);
    }
}

/// Answers a request; gives what is to be relayed if the answer is yes.
async fn arrive(shard: &PodShard, peer: &Peer, incoming: Incoming) -> Option<Arrival> {
    let at = Instant::now();
    let Incoming { request, mut respond } = incoming;
    let context = &shard.context;
    let request = match request {
        Ok(request) => request,
        Err(problem) => {
            shard.refused(peer.address, Refused::NotHbone, &problem);
            respond.reject(Refusal::BAD_REQUEST);
            return None;
        }
    };
    let Ok(permit) = shard.descriptor(peer.address) else {
        respond.reject(Refusal::unavailable(Cause::LimitReached));
        return None;
    };
    let view = context.view();
    let mut connection = describe(shard, &view, peer, &request);
    let target = match own_address(&shard.pod.ips, &request) {
        Ok(target) => target,
        Err(problem) => {
            respond.reject(Refusal::BAD_REQUEST);
            connection.failed(context, at, ResponseFlags::Connect, &problem);
            return None;
        }
    };
    connection.destination = SocketAddr::new(target.ip(), HBONE_PORT);
    let asked = Request::new(Some(peer.identity.clone()), peer.address.ip(), target);
    let admission = match shard.admissions.admit(&shard.pod.name, asked) {
        Ok(admission) => admission,
        Err(verdict) => {
            respond.reject(Refusal::DENIED);
            connection.denied(context, at, verdict);
            return None;
        }
    };
    connection.verdict = Some(admission.verdict.clone());
    respond.charge(&shard.pod.shares.memory);
    let client = client_address(&view, peer, target.ip());
    let dialling = dial::connect_application(&shard.pod, &context.sockets, client, target, context.patience.overall);
    let dialled = tokio::select! {
        dialled = dialling => dialled,
        () = respond.cancelled() => {
            connection.failed(context, at, ResponseFlags::Connect, &"the client gave up before the application answered");
            return None;
        }
    };
    if peer.protocol == Protocol::Hbone {
        // h2 sends each answer at once; others that are ready by now go along with this one.
        tokio::task::yield_now().await;
    }
    match dialled {
        Ok(server) => accept(shard, connection, at, respond).map(|(record, stream)| Arrival {
            record,
            admission,
            stream,
            server,
            _permit: permit,
        }),
        Err(error) => {
            respond.reject(Refusal::unavailable(cause(&error)));
            connection.failed(context, at, ResponseFlags::Connect, &error);
            None
        }
    }
}

fn accept(shard: &PodShard, connection: Connection, at: Instant, respond: Respond) -> Option<(Record, Stream)> {
    let context = &shard.context;
    let workload = connection.destination_workload.as_ref();
    let baggage = workload.map(|workload| shard.described.of(workload, &context.cluster));
    match respond.accept(baggage.as_ref()) {
        Ok(mut stream) => {
            stream.charge(&shard.pod.shares.memory);
            Some((connection.opened(context, at), stream))
        }
        Err(error) => {
            connection.failed(context, at, ResponseFlags::Connect, &error);
            None
        }
    }
}

fn cause(error: &DialError) -> Cause {
    match error {
        DialError::Refused(_) => Cause::ConnectionRefused,
        DialError::TimedOut { .. } => Cause::ConnectionTimeout,
        DialError::Unreachable { .. } => Cause::DestinationUnavailable,
        DialError::Local { .. } => Cause::Internal,
    }
}

fn describe(shard: &PodShard, view: &MeshView, peer: &Peer, request: &ConnectRequest) -> Connection {
    let target = SocketAddr::new(shard.pod.ips[0], HBONE_PORT);
    let mut connection = Connection::between(Reporter::Destination, peer.address, target);
    connection.hbone_target = Some(request.authority.clone());
    // An address alone proves nothing: the pod behind it is named only if it is the one that the certificate names.
    connection.source_workload =
        view.workload_at(peer.address.ip()).filter(|workload| workload.identity == peer.identity).cloned();
    connection.source_identity = Some(peer.identity.clone());
    connection.destination_workload = view.workload(&shard.pod.name).cloned();
    connection.destination_identity = Some(shard.pod.identity.clone());
    connection.service =
        request.forwarded.as_ref().and_then(|f| f.host.as_deref()).and_then(|host| view.service_named(host)).cloned();
    connection.security = SecurityPolicy::MutualTls;
    connection.protocol = peer.protocol;
    connection
}

/// A tunnel leads to the pod that it ends at and nowhere else: a peer must not reach, through this pod, what it could not reach
/// itself, nor the agent's own ports.
fn own_address(ips: &[IpAddr], request: &ConnectRequest) -> Result<SocketAddr, String> {
    let authority = &request.authority;
    let &Authority::Address(target) = authority else {
        return Err(format!("CONNECT to {authority}: host names are for waypoints; this is a pod"));
    };
    if !ips.contains(&target.ip()) {
        return Err(format!("CONNECT to {authority}: this tunnel ends at {}", ips[0]));
    }
    if RESERVED_PORTS.contains(&target.port()) {
        return Err(format!("CONNECT to {authority}: the port belongs to the mesh"));
    }
    Ok(target)
}

/// The address that the application shall see: the tunnel's peer, or that pod's address of the target's family.
fn client_address(view: &MeshView, peer: &Peer, target: IpAddr) -> Option<IpAddr> {
    let ip = peer.address.ip();
    if ip.is_ipv4() == target.is_ipv4() {
        return Some(ip);
    }
    let workload = view.workload_at(ip).filter(|workload| workload.identity == peer.identity)?;
    workload.ips.iter().copied().find(|ip| ip.is_ipv4() == target.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F: Future>(_: impl FnOnce(&'static PodShard, &'static Peer, &'static Cell<usize>, Incoming) -> F) -> usize {
        size_of::<F>()
    }

    /// Each open connection holds one: it is most of what an idle one costs.
    #[test]
    fn a_connections_task_is_small() {
        assert!(size(serve_request) <= 1792, "{} bytes", size(serve_request));
    }
}
