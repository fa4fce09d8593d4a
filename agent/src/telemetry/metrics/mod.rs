//! What the agent counts, and the pages that show it.

mod exposition;
mod node;
mod policy;
mod process;
mod registry;
mod threads;
mod tunnels;

pub use exposition::Format;
pub use node::{CertificateFigures, CertificateMetrics, MapFill, NodeMetrics, StateFigures, StateMetrics};
pub use policy::{BrokenMetrics, PolicyMetrics, Refused, RefusedMetrics};
pub use registry::Metrics;
pub use threads::ThreadMetrics;
pub use tunnels::{OpenTunnel, TunnelMetrics, TunnelStream};
