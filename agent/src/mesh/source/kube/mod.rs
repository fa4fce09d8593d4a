//! The mesh from a Kubernetes API server.
//!
//! ```text
//! follower per kind ─ decode, prune ─> collect: store (last good of each object) ─ debounce ─> convert ─> MeshState
//! ```
//!
//! - Every kind is listed once and then watched (`drivers::cluster::follow`); what is not used of an object is dropped at once.
//! - An object that is wrong changes nothing: its last good version serves on, and it is reported. A policy without a good
//!   version fails closed.
//! - Nothing is published before every kind has been listed: half a mesh would let pods be reached in clear text.
//! - While the API server is away, what is known serves on.

pub mod collect;

mod decode;
mod kinds;
mod prune;
mod store;

#[cfg(test)]
mod tests;
