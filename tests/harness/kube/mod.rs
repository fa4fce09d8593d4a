//! Kubernetes for tests: an API server of a test's own, alone or with pods that the test makes, and the cluster that the tier was
//! started with.

mod apiserver;
mod bare;
mod cluster;
mod controller;
mod gate;
mod kubectl;
mod parts;
mod pod;
mod ports;
mod token;
mod wire;

pub use apiserver::ApiServer;
pub use bare::BareCluster;
pub use cluster::{Cluster, ClusterNode};
pub use controller::Controller;
pub use gate::Gate;
pub use kubectl::{Kubectl, TestNamespace};
pub use parts::Crashed;
pub use pod::{BUSYBOX, KubePod};
pub use wire::ClusterCapture;
