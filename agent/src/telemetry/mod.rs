//! Logs and metrics.

pub mod authority;
mod counter;
pub mod filter;
pub mod labels;
pub mod log;
pub mod metrics;
pub mod series;
