//! HBONE: TCP streams in HTTP/2 CONNECT, wire-compatible with Istio's ztunnel and Envoy waypoints. Works over any byte stream.
//!
//! ```text
//! client::handshake(io) -> (Client, Connection)          server::serve(io, shutdown, handler)
//!        Client::open(ConnectRequest)  --- CONNECT --->  handler(Incoming)
//!        Opened { stream, baggage }    <--- 200 --------  Respond::accept   (or reject: 4xx, 5xx)
//!        SendHalf, RecvHalf            <--- DATA ----->   SendHalf, RecvHalf
//! ```
//! END_STREAM is TCP's FIN, RST_STREAM its RST. `Connection` and `serve` are futures that the caller drives; dropping
//! one breaks its tunnel. Between h2 and the bytes sits a meter that watches the frames go by: it tells the watchdog
//! whether the peer is alive, and the client whether the peer's connection window is exhausted.

mod meter;
mod stream;
mod watchdog;

pub mod client;
pub mod frames;
pub mod server;

pub use stream::{RecvHalf, SEND_CHUNK, SendHalf, Stream};

#[cfg(test)]
mod tests;
