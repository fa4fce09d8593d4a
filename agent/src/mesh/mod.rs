//! The mesh as it is now, and a way to reach a service of it.

pub mod source;
pub mod upstream;
