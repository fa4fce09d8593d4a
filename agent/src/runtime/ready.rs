//! Readiness: true once everything that was waited for is there, and able to say what is missing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The set of things that are not ready yet.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeSet<&'static str>>>);

/// Keeps the process unready; dropping it means "ready".
#[derive(Debug)]
pub struct Pending {
    name: &'static str,
    of: Readiness,
}

impl Readiness {
    /// Nothing is waited for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for `name` until the guard is dropped.
    #[must_use]
    pub fn wait_for(&self, name: &'static str) -> Pending {
        self.with(|pending| pending.insert(name));
        Pending { name, of: self.clone() }
    }

    /// What is waited for, in alphabetical order; empty means ready.
    #[must_use]
    pub fn pending(&self) -> Vec<&'static str> {
        self.with(|pending| pending.iter().copied().collect())
    }

    fn with<T>(&self, action: impl FnOnce(&mut BTreeSet<&'static str>) -> T) -> T {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.of.with(|pending| pending.remove(self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_guard_is_gone() {
        let readiness = Readiness::new();
        let state = readiness.wait_for("state");
        let redirect = readiness.wait_for("redirect");
        assert_eq!(readiness.pending(), ["redirect", "state"]);
        drop(redirect);
        assert_eq!(readiness.pending(), ["state"]);
        drop(state);
        assert!(readiness.pending().is_empty());
    }
}
