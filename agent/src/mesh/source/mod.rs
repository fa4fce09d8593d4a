//! Where the state of the mesh comes from.
//!
//! Kubernetes objects (`objects`) are turned into the model (`convert`) by pure rules; a source feeds them and publishes
//! a [`state::MeshState`] each time that something changed. `directory` is the source that reads a folder of manifests, `kube` the one
//! that follows an API server.

pub mod convert;
pub mod directory;
pub mod field;
pub mod kube;
pub mod objects;
pub mod problem;
pub mod shared;
pub mod state;

mod report;
mod slim;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod policy_table;
