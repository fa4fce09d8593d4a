//! Whether a tunnel carries a bulk transfer, beside which small things wait.

use std::time::{Duration, Instant};

/// What fills a record or nearly so is bulk, in bytes.
const LARGE: usize = 12 * 1024;

/// So much bulk ...
const MUCH: usize = 4 << 20;

/// ... in so little time makes a tunnel busy (20 MB/s) ...
const SOON: Duration = Duration::from_millis(200);

/// ... for so long.
const LASTS: Duration = Duration::from_secs(1);

/// See the module. Looks at the clock once for every [`MUCH`] bytes.
#[derive(Debug)]
pub(super) struct Load {
    since: Instant,
    bytes: usize,
    busy_until: Option<Instant>,
}

impl Load {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0, busy_until: None }
    }

    /// So much went through at once.
    pub(super) fn note(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        if bytes < LARGE {
            return;
        }
        self.bytes += bytes;
        if self.bytes < MUCH {
            return;
        }
        let now = now();
        if now.saturating_duration_since(self.since) <= SOON {
            self.busy_until = Some(now + LASTS);
        }
        (self.since, self.bytes) = (now, 0);
    }

    pub(super) fn is_busy(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_much_in_little_time_is_bulk() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut load = Load::new(start);
        for _ in 0..10_000 {
            load.note(1000, || at(1));
        }
        assert!(!load.is_busy(at(1)), "many small things are no bulk transfer");
        for step in 0..512 {
            load.note(16_000, || at(step * 10));
        }
        assert!(!load.is_busy(at(5120)), "3 MB/s is none either");
        for _ in 0..1024 {
            load.note(16_000, || at(5200));
        }
        assert!(load.is_busy(at(5300)) && !load.is_busy(at(6300)));
    }
}
