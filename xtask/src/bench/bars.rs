//! What sotto wants to reach, as ratios in one run: met or not.

use super::results::Results;

/// One bar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bar {
    pub(super) contestant: &'static str,
    pub(super) peer: &'static str,
    pub(super) figure: &'static str,
    /// At least, or at most, that ratio.
    at_least: bool,
    limit: f64,
}

/// How a bar was done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    pub(super) ratio: f64,
    pub(super) met: bool,
}

const fn at_least(contestant: &'static str, peer: &'static str, figure: &'static str, limit: f64) -> Bar {
    Bar { contestant, peer, figure, at_least: true, limit }
}

const fn at_most(contestant: &'static str, peer: &'static str, figure: &'static str, limit: f64) -> Bar {
    Bar { contestant, peer, figure, at_least: false, limit }
}

/// All bars.
pub(super) const BARS: &[Bar] = &[
    at_least("sotto", "ztunnel", "throughput_1_gbits", 1.4),
    at_least("sotto", "ztunnel", "throughput_4_gbits", 1.65),
    at_least("sotto", "ztunnel", "requests_per_s", 1.7),
    at_least("sotto", "ztunnel", "connections_per_s", 2.2),
    at_most("sotto", "ztunnel", "cpu_ms_per_gb_1", 0.65),
    at_most("sotto", "ztunnel", "cpu_ms_per_1k_requests", 0.5),
    at_most("sotto", "ztunnel", "cpu_ms_per_1k_connections", 0.4),
    at_most("sotto", "ztunnel", "memory_rest_mib", 1.0),
    at_most("sotto", "ztunnel", "idle_connection_kib", 1.0),
    at_least("sotto-h2", "ztunnel", "throughput_1_gbits", 1.0),
    at_least("sotto-h2", "ztunnel", "throughput_4_gbits", 1.0),
    at_least("sotto-h2", "ztunnel", "requests_per_s", 1.5),
    at_least("sotto-h2", "ztunnel", "connections_per_s", 1.5),
    at_least("sotto", "envoy-http", "requests_per_s", 2.5),
    at_most("sotto", "envoy-tcp", "pods_10_memory_mib", 0.3),
    at_least("sotto-local", "plain-local", "throughput_1_gbits", 0.97),
    at_least("sotto-local", "plain-local", "throughput_4_gbits", 0.97),
    at_least("sotto-local", "plain-local", "requests_per_s", 0.97),
    at_most("sotto-local", "plain-local", "paced_p50_us", 1.05),
    at_least("sotto-local", "plain-local", "connections_per_s", 0.9),
];

/// Small requests beside a bulk transfer: their p50 as a multiple of that without, of sotto alone.
pub(super) const BESIDE: (&str, f64) = ("beside_p50_ratio", 3.0);

impl Bar {
    /// Whether it was met; none where one of the two had no turn.
    pub(super) fn judge(&self, results: &Results) -> Option<Verdict> {
        let ratio = results.ratio(self.figure, self.contestant, self.peer)?.median;
        Some(Verdict { ratio, met: if self.at_least { ratio >= self.limit } else { ratio <= self.limit } })
    }

    /// `≥ 1.40`
    pub(super) fn wanted(&self) -> String {
        format!("{} {:.2}", if self.at_least { '≥' } else { '≤' }, self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::sample;
    use super::*;

    #[test]
    fn a_bar_is_met_by_the_ratio_of_the_same_run() {
        let results = sample();
        let bar = at_least("sotto", "ztunnel", "requests_per_s", 2.5);
        assert_eq!(bar.judge(&results), Some(Verdict { ratio: 2.5, met: true }));
        assert!(!at_least("sotto", "ztunnel", "requests_per_s", 2.6).judge(&results).unwrap().met);
        assert!(!at_most("sotto", "ztunnel", "requests_per_s", 0.5).judge(&results).unwrap().met);
        assert_eq!(at_least("sotto-h2", "ztunnel", "requests_per_s", 1.0).judge(&results), None);
    }
}
