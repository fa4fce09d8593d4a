//! PeerAuthentication and AuthorizationPolicy objects to the policies of the model.
//!
//! An object that is wrong is reported by field. Where nothing better serves in its place it fails closed: an ALLOW policy then
//! allows nothing, a DENY policy denies everything, a PeerAuthentication is STRICT. Selector labels that are good still select.

pub(super) mod authentication;
pub(super) mod authorization;

mod collect;
mod conditions;
mod fields;
mod selector;
mod sources;

pub(super) use collect::policies;
