//! Logs and metrics.

pub mod authority;
pub mod labels;
pub mod log;
pub mod metrics;
