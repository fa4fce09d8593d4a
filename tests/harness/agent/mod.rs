//! The agent of a node, and what it says of itself.

mod access_log;
mod metrics;
mod program;

pub use access_log::AccessEntry;
pub use metrics::Metrics;
pub use program::{Agent, AgentBuilder};
