//! TLS handshakes between workloads: what is offered, who may come in, and why not; and [`service`], TLS to the authority.

pub mod config;
pub mod handshake;
mod negotiate;
pub mod records;
pub mod service;
mod session;
