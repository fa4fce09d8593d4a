//! The agent of a node, a stock ztunnel, and what they say of themselves.

mod access_log;
mod http;
mod metrics;
mod operator;
mod program;
mod prometheus;
mod zds;
mod ztunnel;

pub use access_log::AccessEntry;
pub use metrics::Metrics;
pub use operator::{Told, operate};
pub(crate) use program::binary;
pub use program::{Agent, AgentBuilder};
pub use prometheus::{Prometheus, Series};
pub use ztunnel::{NodeZtunnel, Ztunnel, ZtunnelProgram};
