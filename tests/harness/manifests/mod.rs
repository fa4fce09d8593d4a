//! Kubernetes objects in the directory that the agents watch.

mod directory;
mod policy;
mod service;

pub(crate) use directory::{Manifests, file_name};
pub use policy::{Policy, PolicyBuilder};
pub use service::{Service, ServiceBuilder};
