//! How a root is replaced without an outage: pure.
//!
//! ```text
//! steady ── asked, or the end is near ──▶ distributing ── wait ──▶ (switch) retiring ── wait ──▶ steady
//!           a new root is published         the old one signs       the new one signs, both are trusted
//! ```
//!
//! A workload learns the roots together with its certificate, and uses them until it has the next one. So whoever has a
//! certificate from before a change has none any more when the longest life of a certificate has passed: that is what is waited
//! for, twice. Before the switch, so that everybody who is alive trusts what the new root signs; before the old root goes, so
//! that nobody is alive who was signed under it. The intermediate is sent with every certificate; nobody has to know it before.

use std::time::{Duration, SystemTime};

use crate::drivers::certs::ca::hierarchy::Validity;

/// The durations that a rotation goes by.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The longest life of a workload's certificate.
    pub max_leaf: Duration,
    /// How long each change is waited for: the longest life of a certificate, and some time for replicas to notice.
    pub wait: Duration,
    /// How long a root lives.
    pub root: Duration,
    /// How long an intermediate lives.
    pub intermediate: Duration,
}

/// How far a rotation of the root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// One root.
    Steady,
    /// A new root is trusted and does not sign yet.
    Distributing {
        /// Since when.
        since: SystemTime,
    },
    /// The new root signs, and the old one is still trusted.
    Retiring {
        /// Since when.
        since: SystemTime,
    },
}

/// What an operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A new root (and with it an intermediate).
    Root,
    /// A new intermediate under the same root.
    Intermediate,
}

/// What there is.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// How far a rotation is.
    pub progress: Progress,
    /// The root that signs.
    pub root: Validity,
    /// The intermediate under it.
    pub intermediate: Validity,
    /// What was asked for.
    pub wish: Option<Wish>,
}

/// The next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make another root and have it trusted.
    Prepare,
    /// Sign with the new root from now on.
    Switch,
    /// Trust the old root no longer.
    Retire,
    /// Make another intermediate under the root that signs.
    RenewIntermediate,
}

/// The step that is due at `now`, if one is. After it is done the next may be due at once.
#[must_use]
pub fn next(facts: &Facts, timing: &Timing, now: SystemTime) -> Option<Step> {
    // A clock that was set back counts as no time at all: waiting too long is safe.
    let over = |since: SystemTime| now.duration_since(since).is_ok_and(|waited| waited >= timing.wait);
    let is_over = now >= facts.root.not_after;
    match facts.progress {
        // An expired root has nothing left to wait for.
        Progress::Distributing { since } if over(since) || is_over => return Some(Step::Switch),
        Progress::Retiring { since } if over(since) => return Some(Step::Retire),
        Progress::Steady
            if facts.wish == Some(Wish::Root) || is_near(facts.root.not_after, root_margin(timing), now) =>
        {
            return Some(Step::Prepare);
        }
        Progress::Steady | Progress::Distributing { .. } | Progress::Retiring { .. } => {}
    }
    let asked = facts.wish == Some(Wish::Intermediate);
    let near = is_near(facts.intermediate.not_after, intermediate_margin(timing), now);
    // One that ends with its root would be made again and again: only the next root helps then.
    let helps = facts.intermediate.not_after < facts.root.not_after && !is_over;
    (asked || near && helps).then_some(Step::RenewIntermediate)
}

/// How long before its end a root is replaced: the whole rotation, twice over, and a tenth of its life at least.
fn root_margin(timing: &Timing) -> Duration {
    (timing.wait * 4).max(timing.root / 10)
}

/// How long before its end an intermediate is replaced: nothing that it signs may be cut short.
fn intermediate_margin(timing: &Timing) -> Duration {
    (timing.max_leaf * 2).max(timing.intermediate / 3)
}

fn is_near(end: SystemTime, margin: Duration, now: SystemTime) -> bool {
    end.duration_since(now).map_or(true, |left| left <= margin)
}
