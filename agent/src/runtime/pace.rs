//! How much one connection moves before others of its thread have their turn: much where nobody waits, little beside small
//! requests, which wait for every turn that they meet.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A turn where nobody waits, in bytes: with less, system calls cost more than they need.
const LONG: usize = 128 * 1024;

/// A turn beside small requests, in bytes.
const SHORT: usize = 32 * 1024;

/// How long a small request is remembered.
const REMEMBERED: Duration = Duration::from_millis(10);

thread_local! {
    /// Until when turns are short.
    static SHORT_UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// This thread has carried something small, apart from bulk transfers.
pub fn note_small(now: Instant) {
    SHORT_UNTIL.set(Some(now + REMEMBERED));
}

/// How much may be moved at once, in bytes.
#[must_use]
pub fn turn(now: Instant) -> usize {
    match SHORT_UNTIL.get() {
        Some(until) if now < until => SHORT,
        _ => LONG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_short_for_a_while_after_something_small() {
        let now = Instant::now();
        assert_eq!(turn(now), LONG);
        note_small(now);
        assert_eq!([turn(now), turn(now + REMEMBERED)], [SHORT, LONG]);
    }
}
