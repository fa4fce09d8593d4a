//! Logs and metrics.

pub mod authority;
mod counter;
pub mod labels;
pub mod log;
pub mod metrics;
pub mod series;
