//! When to renew a certificate and when to try again: pure, without jitter, as the moments of issue differ anyway.

use std::time::{Duration, SystemTime};

/// The first and the longest wait after failures, for certificates that live for hours.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(150);

/// The waits in parts of a lifetime, which count where they are shorter: a certificate that lives for seconds is asked
/// for often enough to be replaced in time.
const FIRST_RETRY_PART: u32 = 40;
const LONGEST_RETRY_PART: u32 = 10;

/// No wait is shorter, whatever an authority grants: it would be a busy loop.
const SHORTEST_RETRY: Duration = Duration::from_millis(50);

/// When to renew a certificate that was received at `received` and expires at `not_after`: in the middle of what is
/// left then.
///
/// It counts from the receipt, not from the certificate's start, which the authority sets back for clocks that differ.
#[must_use]
pub(super) fn renew_at(received: SystemTime, not_after: SystemTime) -> SystemTime {
    received + not_after.duration_since(received).unwrap_or_default() / 2
}

/// How long to wait after the `failures`-th failure in a row (from 1) when certificates live for `lifetime`.
#[must_use]
pub(super) fn retry_after(failures: u32, lifetime: Duration) -> Duration {
    let first = FIRST_RETRY.min(lifetime / FIRST_RETRY_PART);
    let longest = LONGEST_RETRY.min(lifetime / LONGEST_RETRY_PART);
    let doubled = first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(longest).max(SHORTEST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn renewal_is_at_half_of_what_is_left() {
        let received = SystemTime::UNIX_EPOCH + DAY;
        assert_eq!(renew_at(received, received + Duration::from_secs(10)), received + Duration::from_secs(5));
        assert_eq!(renew_at(received, received - DAY), received, "what is over is renewed at once");
    }

    #[test]
    fn retries_back_off_from_one_second_to_150() {
        let waits: Vec<u64> = (1..=9).map(|failures| retry_after(failures, DAY).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 150]);
        assert_eq!(retry_after(u32::MAX, DAY), LONGEST_RETRY);
    }

    #[test]
    fn short_lived_certificates_are_retried_within_their_life() {
        let waits: Vec<u128> =
            (1..=4).map(|failures| retry_after(failures, Duration::from_secs(4)).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 400]);
        assert_eq!(retry_after(1, Duration::ZERO), SHORTEST_RETRY);
    }
}
