//! The nouns of the mesh and the pure rules about them: no IO, no clock, no runtime.

pub mod address;
pub mod arrival;
pub mod authority;
pub mod baggage;
pub mod cni;
pub mod enrolment;
pub mod forwarded;
pub mod identity;
pub mod policy;
pub mod service;
pub mod traceparent;
pub mod view;
pub mod workload;
