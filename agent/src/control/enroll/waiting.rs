//! A pod that ought to be carried and cannot be yet.

use std::time::{Duration, Instant};

use super::plan::Wanted;
use crate::drivers::certs::store::IdentityHandle;

/// How long a pod that cannot be carried keeps the agent from being ready, unless it is the certificate that is missing.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Waiting {
    pub(super) wanted: Wanted,
    pub(super) identity: IdentityHandle,
    /// Why it cannot be carried, in an operator's words.
    pub(super) problem: String,
    /// Since when.
    pub(super) since: Instant,
    /// Whether only its certificate is missing.
    pub(super) for_certificate: bool,
}

impl Waiting {
    /// Whether the agent does not count as ready because of it: a pod without a certificate is one that the agent may lack, what
    /// else a pod waits for after some time is the pod's own affair.
    pub(super) fn keeps_unready(&self, now: Instant) -> bool {
        self.for_certificate || now.saturating_duration_since(self.since) < JOIN_PATIENCE
    }
}
