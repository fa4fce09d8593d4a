//! The mesh as it is now, the pods that this node carries, and a way to reach a service.

pub mod local;
pub mod source;
pub mod upstream;
