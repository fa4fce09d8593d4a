//! A pod that ought to be carried and cannot be yet.

use std::time::{Duration, Instant};

use super::plan::Wanted;
use crate::drivers::certs::store::IdentityHandle;
use crate::runtime::ready::{Pending, Readiness};

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
    /// Whether something went wrong, rather than takes its time.
    pub(super) is_failing: bool,
}

/// Whether all pods of this node that the agent has to carry are carried.
pub(super) struct PodReadiness {
    readiness: Readiness,
    pending: Option<Pending>,
    /// Whether that was so once.
    was_ready: bool,
}

/// Pods that are named when they keep the agent from being ready.
const NAMED: usize = 5;

impl Waiting {
    /// Whether the agent does not count as ready because of it: a pod without a certificate is one that the agent may lack, what
    /// else a pod waits for after some time is the pod's own affair. Once the agent has been ready, a new pod has the time that
    /// certificates take.
    fn keeps_unready(&self, now: Instant, was_ready: bool) -> bool {
        let is_new = now.saturating_duration_since(self.since) < JOIN_PATIENCE;
        if was_ready { self.for_certificate && !is_new } else { self.for_certificate || is_new }
    }
}

impl PodReadiness {
    /// Not before the pods of the first state have been looked at.
    pub(super) fn new(readiness: &Readiness) -> Self {
        Self { readiness: readiness.clone(), pending: Some(readiness.wait_for("pods")), was_ready: false }
    }

    /// Takes over which pods wait.
    pub(super) fn look_at<'a>(&mut self, waiting: impl Iterator<Item = &'a Waiting>, now: Instant) {
        let missing: Vec<_> = waiting.filter(|waiting| waiting.keeps_unready(now, self.was_ready)).collect();
        if missing.is_empty() {
            self.pending = None;
            self.was_ready = true;
        } else {
            let pending = self.pending.get_or_insert_with(|| self.readiness.wait_for("pods"));
            pending.because(words(&missing));
        }
    }
}

fn words(missing: &[&Waiting]) -> String {
    let named: Vec<_> = missing.iter().take(NAMED).map(|w| format!("{}: {}", w.wanted.name, w.problem)).collect();
    match missing.len().saturating_sub(NAMED) {
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}
