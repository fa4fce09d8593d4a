//! How often each caller may ask: a bucket per key, and no more keys than fit.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a caller may ask at once and over time.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// At once, after a pause.
    pub burst: u32,
    /// One more after each of these.
    pub every: Duration,
}

/// The most callers that are told apart at a time.
const MAX_KEYS: usize = 8192;

/// Buckets by caller. A caller without a bucket has a full one.
#[derive(Debug)]
pub struct Limits<K> {
    rate: Rate,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    left: u32,
    since: Instant,
}

impl<K: Eq + Hash> Limits<K> {
    /// No caller has asked yet.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Whether `key` may ask at `now`; if so, it is counted.
    pub fn allow(&self, key: K, now: Instant) -> bool {
        let Rate { burst, every } = self.rate;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_KEYS {
            buckets.retain(|_, bucket| bucket.refilled(now, self.rate) < burst);
            // Full of callers that are all busy: whoever is new has to wait, as its bucket could not be kept.
            if buckets.len() >= MAX_KEYS && !buckets.contains_key(&key) {
                return false;
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket { left: burst, since: now });
        let filled = bucket.refilled(now, self.rate);
        if filled > bucket.left {
            let earned = now.saturating_duration_since(bucket.since).as_nanos() / every.as_nanos().max(1);
            let whole = u32::try_from(earned).unwrap_or(u32::MAX);
            bucket.since = if filled == burst { now } else { bucket.since + every * whole };
            bucket.left = filled;
        } else if bucket.left == burst {
            bucket.since = now;
        }
        let allowed = bucket.left > 0;
        bucket.left = bucket.left.saturating_sub(1);
        allowed
    }
}

impl Bucket {
    fn refilled(&self, now: Instant, rate: Rate) -> u32 {
        let earned = now.saturating_duration_since(self.since).as_nanos() / rate.every.as_nanos().max(1);
        rate.burst.min(self.left.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 2, every: Duration::from_secs(10) };

    #[test]
    fn each_caller_has_a_burst_and_then_a_rate() {
        let (limits, start) = (Limits::new(RATE), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(limits.allow("a", start) && limits.allow("a", start) && !limits.allow("a", start));
        assert!(limits.allow("b", start), "another caller is not held up");
        assert!(!limits.allow("a", at(9)) && limits.allow("a", at(10)) && !limits.allow("a", at(19)));
        assert!(limits.allow("a", at(20)));
        assert!(limits.allow("a", at(1000)) && limits.allow("a", at(1000)) && !limits.allow("a", at(1000)));
    }

    #[test]
    fn callers_are_forgotten_rather_than_piled_up() {
        let (limits, start) = (Limits::new(RATE), Instant::now());
        for caller in 0..MAX_KEYS {
            assert!(limits.allow(caller, start));
        }
        assert!(!limits.allow(MAX_KEYS, start), "all are busy");
        assert!(limits.allow(MAX_KEYS, start + Duration::from_secs(10)));
        assert_eq!(limits.buckets.lock().unwrap().len(), 1);
    }
}
