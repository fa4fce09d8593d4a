//! Logs and metrics.

pub mod access;
pub mod authority;
mod counter;
pub mod filter;
pub mod labels;
mod lines;
pub mod log;
pub mod metrics;
pub mod series;
