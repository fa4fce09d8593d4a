//! The key of a cluster's authority: one root for all replicas, kept in a Secret, replaced without an outage.
//!
//! ```text
//! election ── who keeps ──▶ keeper ── rotation: what next? ──▶ record (Secret) ──▶ every replica's signer
//!                             └── the roots to trust ──▶ ConfigMap ──▶ nodes, as the files that agents check the authority by
//! ```

pub mod election;
pub mod keeper;
pub mod lead;
pub mod plugged;
pub mod record;
pub mod rotation;
pub mod signer;

#[cfg(test)]
mod tests;
