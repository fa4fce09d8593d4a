//! From flags to the `Config` of each module: parsed once, at the edge.

pub mod explain;
pub mod standalone;
