//! What was measured, in words and in the order of the reports.

/// One figure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure {
    /// Its name in the data.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    /// Whether more is better.
    pub(super) more: bool,
}

const fn more(id: &'static str, title: &'static str, unit: &'static str) -> Figure {
    Figure { id, title, unit, more: true }
}

const fn less(id: &'static str, title: &'static str, unit: &'static str) -> Figure {
    Figure { id, title, unit, more: false }
}

/// Groups of figures.
pub(super) const GROUPS: &[(&str, &[Figure])] = &[
    (
        "Speed",
        &[
            more("throughput_1_gbits", "throughput, 1 stream", "Gbit/s"),
            more("throughput_4_gbits", "throughput, 4 streams", "Gbit/s"),
            more("requests_per_s", "requests, 16 connections", "/s"),
            less("requests_p50_us", "  p50", "µs"),
            less("requests_p99_us", "  p99", "µs"),
            more("connections_per_s", "new connections, 16 at a time", "/s"),
            less("connections_p50_us", "  p50", "µs"),
            less("connections_p99_us", "  p99", "µs"),
            less("first_connection_us", "first connection of all", "µs"),
        ],
    ),
    (
        "Latency at a fixed rate",
        &[
            less("paced_p50_us", "fixed rate, p50", "µs"),
            less("paced_p99_us", "fixed rate, p99", "µs"),
            less("paced_p999_us", "fixed rate, p99.9", "µs"),
            less("alone_p50_us", "500 requests/s alone, p50", "µs"),
            less("beside_p50_us", "  beside a bulk transfer, p50", "µs"),
            less("beside_p99_us", "  beside a bulk transfer, p99", "µs"),
            less("beside_p50_ratio", "  p50 beside / alone", "x"),
            more("beside_gbits", "  that transfer", "Gbit/s"),
        ],
    ),
    (
        "Processor time of the proxies",
        &[
            less("cpu_ms_per_gb_1", "per GB, 1 stream", "ms"),
            less("cpu_ms_per_gb_1_a", "  beside the client", "ms"),
            less("cpu_ms_per_gb_1_b", "  beside the server", "ms"),
            less("cpu_ms_per_gb_4", "per GB, 4 streams", "ms"),
            less("cpu_ms_per_1k_requests", "per 1,000 requests", "ms"),
            less("cpu_ms_per_1k_requests_a", "  beside the client", "ms"),
            less("cpu_ms_per_1k_requests_b", "  beside the server", "ms"),
            less("cpu_ms_per_1k_connections", "per 1,000 connections", "ms"),
            less("cpu_ms_per_1k_connections_a", "  beside the client", "ms"),
            less("cpu_ms_per_1k_connections_b", "  beside the server", "ms"),
        ],
    ),
    (
        "Processor time of everything, applications and load included",
        &[
            less("cpu_ms_per_gb_1_all", "per GB, 1 stream", "ms"),
            less("cpu_ms_per_1k_requests_all", "per 1,000 requests", "ms"),
            less("cpu_ms_per_1k_connections_all", "per 1,000 connections", "ms"),
        ],
    ),
    (
        "Memory and start",
        &[
            less("memory_rest_mib", "resident at rest, both sides", "MiB"),
            less("memory_after_load_mib", "resident after the load, both sides", "MiB"),
            less("idle_connection_kib", "per idle connection, both sides", "KiB"),
            less("idle_connection_a_kib", "  beside the client", "KiB"),
            less("idle_connection_b_kib", "  beside the server", "KiB"),
            less("startup_ms", "start until ready", "ms"),
        ],
    ),
    (
        "Joining, upgrading, leaving, with 50 connections open",
        &[
            less("join_ms", "joining", "ms"),
            less("join_broken", "  connections that broke", ""),
            less("join_refused", "  new connections that failed", ""),
            less("join_longest_wait_ms", "  longest wait of a new one", "ms"),
            less("join_pods_restarted", "  pods restarted", ""),
            less("upgrade_ms", "upgrading the proxies", "ms"),
            less("upgrade_broken", "  connections that broke", ""),
            less("upgrade_refused", "  new connections that failed", ""),
            less("upgrade_longest_wait_ms", "  longest wait of a new one", "ms"),
            less("upgrade_pods_restarted", "  pods restarted", ""),
            less("leave_ms", "leaving", "ms"),
            less("leave_broken", "  connections that broke", ""),
            less("leave_refused", "  new connections that failed", ""),
            less("leave_longest_wait_ms", "  longest wait of a new one", "ms"),
            less("leave_pods_restarted", "  pods restarted", ""),
        ],
    ),
    (
        "Memory of a node's proxies",
        &[
            less("pods_1_memory_mib", "1 pod", "MiB"),
            less("pods_10_memory_mib", "10 pods", "MiB"),
            less("pods_100_memory_mib", "100 pods", "MiB"),
        ],
    ),
    (
        "Cost of the mesh's size (services/workloads)",
        &[
            less("size_0_connect_p50_us", "0/0: new connection, p50", "µs"),
            less("size_100_connect_p50_us", "10/100: new connection, p50", "µs"),
            less("size_1000_connect_p50_us", "100/1,000: new connection, p50", "µs"),
            less("size_10000_connect_p50_us", "1,000/10,000: new connection, p50", "µs"),
            more("size_0_connections_per_s", "0/0: new connections", "/s"),
            more("size_100_connections_per_s", "10/100: new connections", "/s"),
            more("size_1000_connections_per_s", "100/1,000: new connections", "/s"),
            more("size_10000_connections_per_s", "1,000/10,000: new connections", "/s"),
            less("size_0_memory_mib", "0/0: memory of an agent", "MiB"),
            less("size_100_memory_mib", "10/100: memory of an agent", "MiB"),
            less("size_1000_memory_mib", "100/1,000: memory of an agent", "MiB"),
            less("size_10000_memory_mib", "1,000/10,000: memory of an agent", "MiB"),
            less("size_100_bytes_per_workload", "10/100: per workload", "B"),
            less("size_1000_bytes_per_workload", "100/1,000: per workload", "B"),
            less("size_10000_bytes_per_workload", "1,000/10,000: per workload", "B"),
            less("size_10000_startup_ms", "1,000/10,000: start until ready", "ms"),
        ],
    ),
];

/// The figure of that name.
pub(super) fn named(id: &str) -> Option<&'static Figure> {
    GROUPS.iter().flat_map(|(_, figures)| *figures).find(|figure| figure.id == id)
}

/// What a contestant's ratios are to: the same way without a mesh.
pub(super) fn baseline(contestant: &str) -> &'static str {
    if contestant.ends_with("-local") { "plain-local" } else { "plain" }
}

/// A multiple, as short as it may be.
pub(super) fn multiple(ratio: f64) -> String {
    let digits = match ratio {
        ratio if ratio >= 100.0 => 0,
        ratio if ratio >= 10.0 => 1,
        _ => 2,
    };
    format!("{ratio:.digits$}x")
}

/// A number with as many digits as say something.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    // 101 509 is read at a glance, 101509 is not.
    match text.len() {
        length @ 5..=6 if digits == 0 => format!("{} {}", &text[..length - 3], &text[length - 3..]),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        assert_eq!([101_509.2, 1234.0, 999.0, 12.34, 0.312].map(number), ["101 509", "1234", "999", "12.3", "0.31"]);
        assert_eq!([123.4, 12.34, 1.234].map(multiple), ["123x", "12.3x", "1.23x"]);
    }

    #[test]
    fn names_are_unique() {
        let mut ids: Vec<_> = GROUPS.iter().flat_map(|(_, figures)| figures.iter().map(|figure| figure.id)).collect();
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
