//! Connections of callers: accepted, encrypted a few at a time, and bounded in number.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::drivers::certs::tls::service::{ServiceConfig, TlsStream};
use crate::drivers::grpc::server::Accepted;

/// Connections at a time: node agents keep one each.
const CONNECTIONS: usize = 8192;

/// Handshakes at a time. Each takes under a millisecond of a core; the rest is waiting for the caller.
const HANDSHAKES: usize = 256;

/// What a caller has for its handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// How long to wait after a failed accept, which is most often a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection of a caller.
pub type CallerConnection = Accepted<TlsStream<TcpStream>, OwnedSemaphorePermit>;

/// The encrypted connections that come in at `listener`.
pub fn connections(listener: TcpListener, tls: ServiceConfig) -> impl Stream<Item = CallerConnection> {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let accepted = stream::unfold(listener, move |listener| {
        let free = Arc::clone(&free);
        async move {
            let permit = free.acquire_owned().await.ok()?;
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => return Some(((stream, peer, permit), listener)),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    });
    accepted
        .map(move |(stream, peer, guard)| {
            let tls = tls.clone();
            async move {
                let _best_effort = stream.set_nodelay(true);
                match tls.accept(stream, HANDSHAKE_LIMIT).await {
                    Ok(io) => Some(Accepted { io, peer, guard }),
                    Err(error) => {
                        tracing::debug!(%peer, %error, "a caller's handshake failed");
                        None
                    }
                }
            }
        })
        .buffer_unordered(HANDSHAKES)
        .filter_map(std::future::ready)
}
