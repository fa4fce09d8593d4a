//! `sotto/1`: many streams in one encrypted connection between two of our own agents. The wire is specified in PROTOCOL.md beside
//! this file.
//!
//! ```text
//! frame, payload ── bytes ⇄ frames          machine ── the protocol's state, pure
//!                                              │
//! stream ◀── port: socket, what waits ──▶    core    ◀── outbox: what is sent next
//!                                              │
//! client, server ── begin, serve ──▶        driver ──▶ records: sealed, one system call for many
//! ```
//! All of it lives on one thread. What comes is written to the streams' sockets by the driver itself, and only what a socket does
//! not take waits for the stream's own task; what goes is read from the sockets straight into the records.

mod client;
mod core;
mod driver;
pub mod frame;
pub mod machine;
mod outbox;
mod payload;
mod port;
mod server;
mod stream;

pub use client::{MuxClient, MuxConnection, begin};
pub use server::{MuxIncoming, MuxRespond, serve};
pub use stream::{MuxStream, RelayError};

/// The protocol's name in ALPN.
pub const PROTOCOL: &[u8] = b"sotto/1";

#[cfg(test)]
mod tests;
