//! How long to wait before an API server is asked again.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(200);

/// The longest wait: an API server that is back is found within it.
const LONGEST: Duration = Duration::from_secs(10);

/// The longest wait that a server can ask for.
const MOST_ASKED: Duration = Duration::from_secs(60);

/// Waits that double, with jitter, so that a thousand agents do not come back at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Something worked: the next failure is the first.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure; `asked` is the server's own wish, `random` from 0 to 1.
    pub(super) fn next(&mut self, asked: Option<Duration>, random: f64) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        wait.max(asked.unwrap_or_default().min(MOST_ASKED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.next(None, 1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.next(None, 0.0).as_millis(), 100);
        assert_eq!(backoff.next(Some(Duration::from_secs(7)), 0.0), Duration::from_secs(7));
        assert_eq!(backoff.next(Some(Duration::from_secs(7000)), 0.0), MOST_ASKED);
        for _ in 0..100 {
            backoff.next(None, 0.5);
        }
        assert!(backoff.next(None, 1.0) <= LONGEST);
    }
}
