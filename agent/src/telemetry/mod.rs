//! Logs and metrics.

pub mod authority;
pub mod filter;
pub mod labels;
pub mod log;
pub mod metrics;
