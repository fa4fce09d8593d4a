//! A real Kubernetes API server for tests.

mod apiserver;
mod gate;

pub use apiserver::ApiServer;
pub use gate::Gate;
