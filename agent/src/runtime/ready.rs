//! Readiness: true once everything that was waited for is there, and able to say what is missing.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// The set of things that are not ready yet, with what is known of the reason.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<State>);

#[derive(Debug, Default)]
struct State {
    waits: Mutex<Waits>,
    /// Something is not waited for any more.
    progress: Notify,
}

type Waits = BTreeMap<&'static str, String>;

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
        self.with(|pending| pending.insert(name, String::new()));
        Pending { name, of: self.clone() }
    }

    /// What is waited for and, where it is known, why, in alphabetical order; empty means ready.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        let told =
            |(name, why): (&&str, &String)| if why.is_empty() { (*name).to_owned() } else { format!("{name} ({why})") };
        self.with(|pending| pending.iter().map(told).collect())
    }

    /// Waits until nothing is waited for.
    pub async fn ready(&self) {
        loop {
            let mut progress = pin!(self.0.progress.notified());
            progress.as_mut().enable();
            if self.pending().is_empty() {
                return;
            }
            progress.await;
        }
    }

    fn with<T>(&self, action: impl FnOnce(&mut Waits) -> T) -> T {
        action(&mut self.0.waits.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Pending {
    /// Says what exactly is missing, in place of what was said before.
    pub fn because(&self, why: String) {
        self.of.with(|pending| pending.insert(self.name, why));
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.of.with(|pending| pending.remove(self.name));
        self.of.0.progress.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_hears_of_the_last_guard() {
        let readiness = Readiness::new();
        let guards = [readiness.wait_for("state"), readiness.wait_for("redirect")];
        let mut waiting = pin!(readiness.ready());
        for guard in guards {
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
            drop(guard);
        }
        waiting.await;
    }

    #[test]
    fn ready_when_the_last_guard_is_gone() {
        let readiness = Readiness::new();
        let state = readiness.wait_for("state");
        let redirect = readiness.wait_for("redirect");
        assert_eq!(readiness.pending(), ["redirect", "state"]);
        state.because("Pods".into());
        assert_eq!(readiness.pending(), ["redirect", "state (Pods)"]);
        state.because(String::new());
        drop(redirect);
        assert_eq!(readiness.pending(), ["state"]);
        drop(state);
        assert!(readiness.pending().is_empty());
    }
}
