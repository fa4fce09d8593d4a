//! From flags to the `Config` of each module: parsed once, at the edge.

pub mod agent;
pub mod ca;
pub mod controller;
pub mod diagnose;
pub mod node;
pub mod standalone;
