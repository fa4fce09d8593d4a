//! The Kubernetes objects that make a mesh: plain JSON shapes with only the fields that are used.
//!
//! Everything that Kubernetes leaves out or writes as `null` is the empty value here. Numbers keep the type that
//! Kubernetes gives them; whether a value makes sense is for `convert` to say.

pub mod authorization_policy;
pub mod endpoint_slice;
pub mod kind;
pub mod meta;
pub mod namespace;
pub mod node;
pub mod peer_authentication;
pub mod pod;
pub mod service;
pub mod service_account;
