//! The signing side, for authorities that live in this process: a key that signs, and Istio's files that it is kept in.

pub mod cacerts;
pub mod issuer;
