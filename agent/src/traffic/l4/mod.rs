//! One TCP connection, from the capture to its last byte.
//!
//! ```text
//! outbound  ── original destination ─▶ mesh::upstream ─▶ relay
//! inbound   ── TLS ─▶ HBONE ─▶ authority, policy ─▶ application ─▶ relay
//! plaintext ── policy ─▶ application ─▶ relay
//! direct    ── verdicts for the kernel, connections that pass the agent by
//! ```

pub mod admission;
pub mod context;
pub mod direct;
pub mod inbound;
pub mod live;
pub mod outbound;
pub mod peers;
pub mod plaintext;
pub mod pod;
pub mod record;
pub mod relay;
pub mod shard;

#[cfg(test)]
mod admission_tests;
