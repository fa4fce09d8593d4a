//! The Container Network Interface as a chained plugin needs it: what a runtime hands in, what it expects back, and the list of
//! plugins that the runtime reads. Followed: the CNI specification, versions 0.3.1 to 1.1.0
//! (<https://www.cni.dev/docs/spec/>).
//!
//! All of it comes from files and environments of the node, which other plugins write: sizes are bounded, nothing is trusted.

pub mod chain;
pub mod config;
pub mod error;
pub mod handover;
pub mod invocation;
pub mod result;
pub mod version;
