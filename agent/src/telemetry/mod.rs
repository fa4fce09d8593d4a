//! Logs and metrics.

pub mod labels;
pub mod log;
pub mod metrics;
