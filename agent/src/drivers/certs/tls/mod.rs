//! TLS handshakes between workloads: what is offered, who may come in, and why not.

pub mod config;
pub mod handshake;
mod session;
