//! One foreign library each; none imports another.

pub mod admin;
pub mod certs;
pub mod cluster;
pub mod grpc;
pub mod pprof;
pub mod redirect;
pub mod tunnel;
