//! The policies of one workload.

use std::sync::Arc;

use super::authentication::Strictness;
use super::authorization::{Action, AuthorizationPolicy};

/// The policies that apply to one workload. The default is that of Istio: clear text and everybody is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadPolicies {
    pub(super) strictness: Strictness,
    pub(super) deny: Vec<Arc<AuthorizationPolicy>>,
    pub(super) allow: Vec<Arc<AuthorizationPolicy>>,
}

impl WorkloadPolicies {
    /// Puts them together; the order of `authorization` does not matter.
    #[must_use]
    pub fn new(strictness: Strictness, mut authorization: Vec<Arc<AuthorizationPolicy>>) -> Self {
        authorization.sort_by(|a, b| a.name.cmp(&b.name));
        let (deny, allow) = authorization.into_iter().partition(|policy| policy.action == Action::Deny);
        Self { strictness, deny, allow }
    }

    /// The AuthorizationPolicies, DENY before ALLOW.
    pub fn authorization(&self) -> impl Iterator<Item = &Arc<AuthorizationPolicy>> {
        self.deny.iter().chain(&self.allow)
    }

    /// What the PeerAuthentications come to.
    #[must_use]
    pub fn strictness(&self) -> &Strictness {
        &self.strictness
    }
}
