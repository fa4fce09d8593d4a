//! Kubernetes for tests: an API server of a test's own, and the cluster that the tier was started with.

mod api_server;
mod cluster;
mod kubectl;
mod pod;

pub use api_server::ApiServer;
pub use cluster::{Cluster, ClusterNode};
pub use kubectl::{Kubectl, TestNamespace};
pub use pod::{BUSYBOX, KubePod};
