//! Who may talk to whom at L4: Istio's PeerAuthentication and AuthorizationPolicy, and what they say of one connection.
//!
//! [`policies::Policies`] holds all policies of the mesh, indexed; [`workload::WorkloadPolicies`] those of one workload;
//! [`evaluate::evaluate`] decides. Peer authentication comes first, then DENY, then ALLOW:
//!
//! 1. no identity where mutual TLS is STRICT → denied
//! 2. any rule of a DENY policy may match → denied
//! 3. no ALLOW policy applies → allowed
//! 4. any rule of an ALLOW policy surely matches → allowed, else denied
//!
//! "May" and "surely" differ for what cannot be seen at L4 (HTTP attributes): [`rule::Truth`] counts it against the connection.

pub mod authentication;
pub mod authorization;
pub mod evaluate;
pub mod explain;
pub mod pattern;
pub mod policies;
pub mod rule;
pub mod selector;
pub mod workload;

mod index;

#[cfg(test)]
mod tests;
