//! Waiting for conditions instead of for time.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for something that should happen soon. Generous: it is only used up by a failure.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Looks at `condition` until it gives a value.
///
/// # Panics
/// When `deadline` passes first; the message says `what` was awaited.
#[track_caller]
pub fn eventually<T>(deadline: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        thread::sleep(INTERVAL);
    }
}

/// Looks at `condition` during the whole of `period`: for things that must not happen.
///
/// # Panics
/// When the condition fails once; the message says `what` should have held.
#[track_caller]
pub fn holds_for(period: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + period;
    while Instant::now() < end {
        assert!(condition(), "does not hold for {period:?}: {what}");
        thread::sleep(INTERVAL);
    }
}
