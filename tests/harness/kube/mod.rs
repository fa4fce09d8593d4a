//! A real Kubernetes API server for tests.

mod apiserver;
mod cluster;
mod controller;
mod gate;

pub use apiserver::ApiServer;
pub use cluster::Cluster;
pub(crate) use cluster::{cgroup2, remove_cgroup};
pub use controller::Controller;
pub use gate::Gate;
