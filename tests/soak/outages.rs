//! When which agent was away, and what failures that excuses.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A node of the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    A,
    B,
}

/// How an agent went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// SIGKILL: its pods' connections wait for the next agent.
    Killed,
    /// SIGTERM: its pods leave the mesh.
    Terminated,
}

/// All absences so far.
#[derive(Debug, Default)]
pub(crate) struct Outages(Mutex<Vec<Outage>>);

#[derive(Clone, Copy, Debug)]
struct Outage {
    which: Which,
    how: End,
    /// Before the signal was sent.
    begun: Instant,
    /// When the process was gone.
    gone: Option<Instant>,
    /// When its successor carried all pods.
    over: Option<Instant>,
}

/// What a connection was about, for the question whether its failure had a reason.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Concern<'a> {
    /// The nodes whose agents carry it.
    pub(crate) agents: &'a [Which],
    /// Its client belongs to the mesh, so that it may wait for an agent that crashed.
    pub(crate) waits: bool,
    /// When `connect()` was called.
    pub(crate) from: Instant,
    /// When it failed.
    pub(crate) until: Instant,
}

impl Outages {
    /// An agent is about to be sent a signal.
    pub(crate) fn begin(&self, which: Which, how: End) {
        self.lock().push(Outage { which, how, begun: Instant::now(), gone: None, over: None });
    }

    /// The process of the last one is gone.
    pub(crate) fn gone(&self) {
        if let Some(last) = self.lock().last_mut() {
            last.gone = Some(Instant::now());
        }
    }

    /// Its successor carries all pods.
    pub(crate) fn over(&self) {
        if let Some(last) = self.lock().last_mut() {
            last.over = Some(Instant::now());
        }
    }

    /// How many there were.
    pub(crate) fn count(&self, how: End) -> usize {
        self.lock().iter().filter(|outage| outage.how == how).count()
    }

    /// How long the longest of a kind took, until all pods were carried again.
    pub(crate) fn longest(&self, how: End) -> Duration {
        let outages = self.lock();
        let lengths = outages.iter().filter(|outage| outage.how == how).filter_map(|o| Some(o.over? - o.begun));
        lengths.max().unwrap_or_default()
    }

    /// The crash during which a connection was made that failed without an excuse: when, and how long that lasted.
    pub(crate) fn during(&self, concern: Concern<'_>) -> Option<String> {
        let outages = self.lock();
        let crash = outages.iter().find(|outage| {
            concern.agents.contains(&outage.which)
                && outage.begun <= concern.from
                && outage.over.is_none_or(|over| concern.from <= over)
        })?;
        let (since, lasted) = (concern.from - crash.begun, crash.over.map(|over| over - crash.begun));
        let lasted = lasted.map_or_else(|| "is not over".to_owned(), |lasted| format!("took {lasted:.1?}"));
        Some(format!("connect() {since:.1?} into a crash of {:?} that {lasted}", crash.which))
    }

    /// The reason that a failed connection had, if it had one.
    pub(crate) fn excuse(&self, concern: Concern<'_>) -> Option<&'static str> {
        self.lock().iter().filter(|outage| concern.agents.contains(&outage.which)).find_map(|o| o.excuse(concern))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Outage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outage {
    fn excuse(&self, Concern { waits, from, until, .. }: Concern<'_>) -> Option<&'static str> {
        let not_after = |then: Option<Instant>| then.is_none_or(|then| from <= then);
        if until < self.begun || !not_after(self.over) {
            return None;
        }
        match self.how {
            End::Killed if not_after(self.gone) => Some("cut by a crash"),
            End::Killed if !waits => Some("refused during a crash"),
            // The next agent serves it: there is no excuse.
            End::Killed => None,
            End::Terminated if not_after(self.gone) => Some("cut by an end"),
            End::Terminated => Some("while ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_after_a_crash_is_excused_only_if_it_cannot_wait() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let outage =
            Outage { which: Which::A, how: End::Killed, begun: at(10), gone: Some(at(11)), over: Some(at(20)) };
        let concern = |waits, from, until| Concern { agents: &[Which::A], waits, from: at(from), until: at(until) };
        assert_eq!(outage.excuse(concern(true, 1, 9)), None, "failed before");
        assert_eq!(outage.excuse(concern(true, 1, 12)), Some("cut by a crash"));
        assert_eq!(outage.excuse(concern(true, 12, 15)), None);
        assert_eq!(outage.excuse(concern(false, 12, 15)), Some("refused during a crash"));
        assert_eq!(outage.excuse(concern(false, 21, 22)), None, "began afterwards");
        let ended = Outage { how: End::Terminated, over: None, ..outage };
        assert_eq!(ended.excuse(concern(true, 12, 15)), Some("while ended"));
    }

    #[test]
    fn only_agents_that_carry_it_excuse_a_connection() {
        let outages = Outages::default();
        outages.begin(Which::A, End::Killed);
        let now = Instant::now();
        let concern = |agents| Concern { agents, waits: true, from: now, until: now };
        assert_eq!(outages.excuse(concern(&[Which::B])), None);
        assert_eq!(outages.excuse(concern(&[Which::A, Which::B])), Some("cut by a crash"));
    }
}
