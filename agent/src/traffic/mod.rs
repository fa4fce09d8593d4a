//! What one connection goes through.

pub mod l4;
