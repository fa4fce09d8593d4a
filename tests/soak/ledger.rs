//! What became of every connection.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::traffic::Kind;

/// How many unexpected failures are kept in words; all are counted.
const KEPT: usize = 40;

/// Connections by kind and outcome.
#[derive(Debug)]
pub(crate) struct Ledger {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    done: BTreeMap<Kind, u64>,
    excused: BTreeMap<(Kind, &'static str), u64>,
    unexpected: BTreeMap<(Kind, String), u64>,
    stories: Vec<String>,
    steps: BTreeMap<&'static str, u64>,
    broken_steps: Vec<String>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), state: Mutex::default() }
    }

    /// A connection went as it should.
    pub(crate) fn done(&self, kind: Kind) {
        *self.lock().done.entry(kind).or_default() += 1;
    }

    /// A connection failed for a known reason.
    pub(crate) fn excused(&self, kind: Kind, why: &'static str) {
        *self.lock().excused.entry((kind, why)).or_default() += 1;
    }

    /// A connection failed without one.
    pub(crate) fn unexpected(&self, kind: Kind, cause: &str, story: &str) {
        let at = self.start.elapsed();
        let mut state = self.lock();
        *state.unexpected.entry((kind, cause.to_owned())).or_default() += 1;
        if state.stories.len() < KEPT {
            state.stories.push(format!("at {at:.1?} {kind:?}: {cause} {story}"));
        }
    }

    /// A disturbance was made.
    pub(crate) fn step(&self, what: &'static str) {
        *self.lock().steps.entry(what).or_default() += 1;
    }

    /// A disturbance did not come about.
    pub(crate) fn broken_step(&self, what: &'static str) {
        let at = self.start.elapsed();
        self.lock()
            .broken_steps
            .push(format!("at {at:.1?} {what} did not come about (the panic above says what was awaited)"));
    }

    /// Disturbances by kind.
    pub(crate) fn steps(&self) -> BTreeMap<&'static str, u64> {
        self.lock().steps.clone()
    }

    /// One line per kind: how many went well, and every failure by cause.
    pub(crate) fn rows(&self) -> Vec<(Kind, u64, Vec<String>)> {
        let state = self.lock();
        let row = |kind: Kind| {
            let excused =
                state.excused.iter().filter(|((k, _), _)| *k == kind).map(|((_, why), n)| format!("{n} {why}"));
            let unexpected = state
                .unexpected
                .iter()
                .filter(|((k, _), _)| *k == kind)
                .map(|((_, why), n)| format!("{n} UNEXPECTED: {why}"));
            (kind, state.done.get(&kind).copied().unwrap_or(0), excused.chain(unexpected).collect())
        };
        Kind::ALL.into_iter().map(row).collect()
    }

    /// Everything that should not have happened, in words.
    pub(crate) fn problems(&self) -> Vec<String> {
        let state = self.lock();
        let count: u64 = state.unexpected.values().sum();
        let failures = (count > 0).then(|| format!("{count} connections failed without a reason"));
        let never = Kind::ALL.into_iter().filter(|kind| !state.done.contains_key(kind));
        let never = never.map(|kind| format!("not one connection of the kind {kind:?} went well"));
        failures
            .into_iter()
            .chain(state.stories.iter().cloned())
            .chain(state.broken_steps.iter().cloned())
            .chain(never)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
