//! Keeps repeated events from flooding the log: a few at once, then one per interval, with a count of what was left out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A token bucket for log lines.
#[derive(Debug)]
pub struct RateLimit {
    burst: u32,
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: u32,
    refilled: Option<Instant>,
    suppressed: u64,
}

/// Lines of all kinds that were left out since the start.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// How many lines of all kinds were left out since the start.
#[must_use]
pub fn suppressed() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

impl RateLimit {
    /// At most `burst` lines at once and one more per `every`.
    #[must_use]
    pub const fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, state: Mutex::new(State { tokens: burst, refilled: None, suppressed: 0 }) }
    }

    /// Whether a line may be written at `now`; if so, how many were suppressed since the last one.
    pub fn allow(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let since = state.refilled.get_or_insert(now);
        let earned = now.saturating_duration_since(*since).as_nanos() / self.every.as_nanos().max(1);
        if earned > 0 {
            state.refilled = Some(now);
            state.tokens = self.burst.min(state.tokens.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)));
        }
        if state.tokens == 0 {
            state.suppressed += 1;
            SUPPRESSED.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        state.tokens -= 1;
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_per_interval_with_a_count() {
        let limit = RateLimit::new(2, Duration::from_secs(10));
        let start = Instant::now();
        assert_eq!(limit.allow(start), Some(0));
        assert_eq!(limit.allow(start), Some(0));
        assert_eq!(limit.allow(start), None);
        assert_eq!(limit.allow(start + Duration::from_secs(9)), None);
        assert_eq!(limit.allow(start + Duration::from_secs(10)), Some(2));
        assert_eq!(limit.allow(start + Duration::from_secs(11)), None);
    }
}
