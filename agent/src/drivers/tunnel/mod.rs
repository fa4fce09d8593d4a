//! Tunnels: many TCP connections in one encrypted one, between two nodes. TLS and sockets are the caller's.
//!
//! Two protocols, chosen by ALPN, with the same requests, refusals and errors:
//! - [`hbone`]: HTTP/2 CONNECT, which Istio's ztunnel and Envoy speak. The only importer of h2 and http.
//! - [`mux`]: `sotto/1`, between two of our own agents.
//!
//! [`client`], [`server`] and [`stream`] are whichever of the two it is.

mod connect;
mod error;
mod first;
mod refusal;
mod settings;

pub mod client;
pub mod edge;
pub mod hbone;
pub mod mux;
pub mod server;
pub mod stream;

pub use connect::{ConnectError, ConnectRequest};
pub use error::{NotProcessed, OpenError, ResetReason, StreamError, TunnelError};
pub use first::FirstBytes;
pub use refusal::{Cause, Refusal};
pub use settings::Config;
