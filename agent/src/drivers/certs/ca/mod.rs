//! The signing side, for authorities that live in this process: a key that signs, Istio's files that it is kept in, the
//! certificates above it, and the certificate that the authority's own server shows.

pub mod cacerts;
pub mod hierarchy;
pub mod issuer;
pub mod serving;
