//! Which address to try next when one fails: pure, with the time and the dice passed in.
//!
//! Every candidate is tried once in random order before the client hears of a failure. Candidates whose agent is away for a
//! moment (restart, a pod that is just joining) are tried again until the patience is used up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Time limits of the way to one endpoint.
#[derive(Clone, Debug)]
pub struct Patience {
    /// For all attempts of one connection together.
    pub overall: Duration,
    /// For one attempt while other candidates are left.
    pub each: Duration,
    /// How long a candidate whose agent is away is tried again.
    pub away: Duration,
}

impl Default for Patience {
    /// 10 s in all, as peers of this field have it; 3 s each; 8 s for an agent that restarts: agents, and ztunnel, stop to
    /// listen when they are told to end and then give open connections 5 s, so a successor may come only after that.
    fn default() -> Self {
        Self { overall: Duration::from_secs(10), each: Duration::from_secs(3), away: Duration::from_secs(8) }
    }
}

/// Whether trying the same candidate again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It answered: no.
    Elsewhere,
    /// Nobody was there to answer; that may change within seconds.
    Again,
    /// No candidate will answer otherwise.
    Never,
}

/// The attempts of one connection.
#[derive(Debug)]
pub struct Attempts {
    started: Instant,
    patience: Patience,
    failed: HashMap<SocketAddr, Retry>,
    first: Option<SocketAddr>,
    rounds: u32,
    hopeless: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try this address for at most this long.
    Try(SocketAddr, Duration),
    /// Wait this long, then ask again with the candidates as they are then.
    Wait(Duration),
    /// Tell the client.
    GiveUp,
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl Attempts {
    /// No attempt made yet.
    #[must_use]
    pub fn new(patience: Patience, now: Instant) -> Self {
        Self { started: now, patience, failed: HashMap::new(), first: None, rounds: 0, hopeless: false }
    }

    /// Tries this address before any other, if it is a candidate.
    #[must_use]
    pub fn beginning_with(self, first: Option<SocketAddr>) -> Self {
        Self { first, ..self }
    }

    /// Notes that an address failed.
    pub fn failed(&mut self, address: SocketAddr, retry: Retry) {
        self.hopeless |= retry == Retry::Never;
        self.failed.insert(address, retry);
    }

    /// Chooses among the candidates. `random` picks a number below its argument.
    pub fn next(&mut self, candidates: &[SocketAddr], now: Instant, random: impl FnOnce(usize) -> usize) -> Next {
        let spent = now.saturating_duration_since(self.started);
        let left = self.patience.overall.saturating_sub(spent);
        if self.hopeless || left.is_zero() {
            return Next::GiveUp;
        }
        let fresh: Vec<_> = candidates.iter().filter(|c| !self.failed.contains_key(c)).collect();
        let first = self.first.take().and_then(|first| fresh.iter().position(|fresh| **fresh == first));
        if let Some(&&address) = fresh.get(first.unwrap_or_else(|| random(fresh.len().max(1)))) {
            let limit = if fresh.len() > 1 || self.has_alternative(candidates, address) {
                left.min(self.patience.each)
            } else {
                left
            };
            return Next::Try(address, limit);
        }
        let worth_another_round = candidates.iter().any(|c| self.failed.get(c) == Some(&Retry::Again));
        if !worth_another_round || spent >= self.patience.away {
            return Next::GiveUp;
        }
        self.failed.retain(|_, retry| *retry != Retry::Again);
        self.rounds += 1;
        Next::Wait((FIRST_PAUSE * 2u32.saturating_pow(self.rounds - 1)).min(LONGEST_PAUSE).min(left))
    }

    /// Whether another candidate could be tried again later.
    fn has_alternative(&self, candidates: &[SocketAddr], address: SocketAddr) -> bool {
        candidates.iter().any(|c| *c != address && self.failed.get(c) != Some(&Retry::Elsewhere))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|n| SocketAddr::from(([10, 0, 0, n], 80))).collect()
    }

    #[test]
    fn each_candidate_once_then_the_client_is_told() {
        let start = Instant::now();
        let mut attempts = Attempts::new(Patience::default(), start);
        let candidates = addresses(3);
        let mut tried = Vec::new();
        while let Next::Try(address, _) = attempts.next(&candidates, start, |n| n - 1) {
            tried.push(address);
            attempts.failed(address, Retry::Elsewhere);
        }
        tried.sort();
        assert_eq!(tried, candidates);
        assert_eq!(attempts.next(&candidates, start, |_| 0), Next::GiveUp);
    }

    #[test]
    fn the_last_candidate_gets_all_the_time_that_is_left() {
        let start = Instant::now();
        let mut attempts = Attempts::new(Patience::default(), start);
        let candidates = addresses(2);
        assert_eq!(attempts.next(&candidates, start, |_| 0), Next::Try(candidates[0], Duration::from_secs(3)));
        attempts.failed(candidates[0], Retry::Elsewhere);
        let later = start + Duration::from_secs(3);
        assert_eq!(attempts.next(&candidates, later, |_| 0), Next::Try(candidates[1], Duration::from_secs(7)));
    }

    #[test]
    fn an_agent_that_is_away_is_asked_again_with_growing_pauses_until_patience_ends() {
        let start = Instant::now();
        let mut now = start;
        let mut attempts = Attempts::new(Patience::default(), start);
        let candidates = addresses(1);
        let mut tries = 0;
        let mut pauses = Vec::new();
        loop {
            match attempts.next(&candidates, now, |_| 0) {
                Next::Try(address, _) => {
                    tries += 1;
                    attempts.failed(address, Retry::Again);
                }
                Next::Wait(pause) => {
                    pauses.push(pause.as_millis());
                    now += pause;
                }
                Next::GiveUp => break,
            }
        }
        assert_eq!(pauses[..5], [50, 100, 200, 400, 500]);
        assert!(now - start >= Duration::from_secs(8) && tries > 10, "{tries} tries in {:?}", now - start);
    }

    #[test]
    fn a_refusal_for_good_ends_it_at_once() {
        let start = Instant::now();
        let mut attempts = Attempts::new(Patience::default(), start);
        let candidates = addresses(5);
        attempts.failed(candidates[0], Retry::Never);
        assert_eq!(attempts.next(&candidates, start, |_| 0), Next::GiveUp);
    }

    #[test]
    fn a_first_choice_is_tried_first_if_it_is_a_candidate() {
        let start = Instant::now();
        let candidates = addresses(3);
        let attempts = |first| Attempts::new(Patience::default(), start).beginning_with(Some(first));
        let mut known = attempts(candidates[1]);
        assert!(matches!(known.next(&candidates, start, |_| 2), Next::Try(address, _) if address == candidates[1]));
        known.failed(candidates[1], Retry::Elsewhere);
        assert!(matches!(known.next(&candidates, start, |n| n - 1), Next::Try(address, _) if address == candidates[2]));
        let mut gone = attempts(SocketAddr::from(([10, 9, 9, 9], 80)));
        assert!(matches!(gone.next(&candidates, start, |_| 2), Next::Try(address, _) if address == candidates[2]));
    }

    #[test]
    fn new_candidates_are_taken_up_and_no_candidates_give_up() {
        let start = Instant::now();
        let mut attempts = Attempts::new(Patience::default(), start);
        let candidates = addresses(2);
        attempts.failed(candidates[0], Retry::Elsewhere);
        assert_eq!(attempts.next(&candidates[..1], start, |_| 0), Next::GiveUp);
        assert!(matches!(attempts.next(&candidates, start, |_| 0), Next::Try(address, _) if address == candidates[1]));
        assert_eq!(Attempts::new(Patience::default(), start).next(&[], start, |_| 0), Next::GiveUp);
    }
}
