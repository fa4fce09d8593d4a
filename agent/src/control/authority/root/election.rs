//! Which replica keeps the root: decided from a Lease, by the local clock alone, as clocks of nodes differ.
//!
//! What the leader writes is guarded by versions as well, so two that both believe to lead make no two roots. The Lease keeps
//! them from working against each other.

use std::time::{Duration, Instant};

/// One replica's view.
#[derive(Debug)]
pub struct Election {
    me: String,
    duration: Duration,
    seen: Option<Seen>,
    renewed: Option<Instant>,
}

/// The Lease when it last changed.
#[derive(Debug)]
struct Seen {
    version: String,
    at: Instant,
}

/// A Lease as it was read.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Who holds it; empty when it was given back.
    pub holder: &'a str,
    /// Changes with every write.
    pub version: &'a str,
    /// How long it is held without being renewed, as its holder says.
    pub duration: Duration,
}

/// What to do with a Lease that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Write our name into it.
    Hold,
    /// Leave it to its holder.
    Wait,
}

impl Election {
    /// A replica called `me`, a name that no other process has or had, which holds a Lease for `duration` at a time.
    #[must_use]
    pub fn new(me: String, duration: Duration) -> Self {
        Self { me, duration, seen: None, renewed: None }
    }

    /// Our name.
    #[must_use]
    pub fn me(&self) -> &str {
        &self.me
    }

    /// What to do about a Lease that was read at `now`.
    pub fn observe(&mut self, lease: Option<Observed<'_>>, now: Instant) -> Act {
        let Some(lease) = lease else { return Act::Hold };
        if self.seen.as_ref().is_none_or(|seen| seen.version != lease.version) {
            self.seen = Some(Seen { version: lease.version.to_owned(), at: now });
        }
        if lease.holder == self.me {
            return Act::Hold;
        }
        self.renewed = None;
        let unchanged = self.seen.as_ref().map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen.at));
        if lease.holder.is_empty() || unchanged > lease.duration { Act::Hold } else { Act::Wait }
    }

    /// The Lease was written with our name; the request was sent at `sent`.
    pub fn held(&mut self, sent: Instant) {
        self.renewed = Some(sent);
    }

    /// Whether we lead at `now`. Ends before others may take the Lease.
    #[must_use]
    pub fn leads(&self, now: Instant) -> bool {
        self.renewed.is_some_and(|at| now.saturating_duration_since(at) < self.duration * 2 / 3)
    }
}
