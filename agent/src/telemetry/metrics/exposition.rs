//! The two text formats of metrics. The library writes OpenMetrics; Prometheus' older format differs in its comments alone.

use std::fmt::{self, Write as _};

/// How metrics are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, 0.0.4, which every tool reads.
    #[default]
    Text,
    /// OpenMetrics 1.0.0
    OpenMetrics,
}

/// A collector that asks for more than this gets the text format.
const LONGEST_ACCEPT: usize = 1024;

impl Format {
    /// What a client gets that sends this `Accept` header: OpenMetrics if it names it, whatever its other wishes.
    #[must_use]
    pub fn for_accept(header: &str) -> Self {
        let wants = |range: &str| {
            let name = range.split(';').next().unwrap_or_default().trim();
            name.eq_ignore_ascii_case("application/openmetrics-text")
        };
        let wanted = header.len() <= LONGEST_ACCEPT && header.split(',').any(wants);
        if wanted { Self::OpenMetrics } else { Self::Text }
    }

    /// The MIME type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Rewrites OpenMetrics as Prometheus' text format: counters are described under the names of their samples, there are no units and
/// no end.
pub(super) fn text(openmetrics: &str) -> Result<String, fmt::Error> {
    let mut page = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(comment) = line.strip_prefix("# ") else {
            writeln!(page, "{line}")?;
            continue;
        };
        if let Some((name, help)) = comment.strip_prefix("HELP ").and_then(|rest| rest.split_once(' ')) {
            // Each HELP is followed by the TYPE of the same name.
            let kind = lines.next().and_then(|line| line.rsplit_once(' ')).map_or("untyped", |(_, kind)| kind);
            let total = if kind == "counter" { "_total" } else { "" };
            // The library ends each help text with a full stop.
            writeln!(page, "# HELP {name}{total} {}", help.trim_end_matches('.'))?;
            writeln!(page, "# TYPE {name}{total} {kind}")?;
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_described_under_their_samples_names() {
        let openmetrics = "# HELP a_bytes Bytes of it.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total{x=\"# HELP b c\"} 1\n\
                           # HELP b Others.\n# TYPE b gauge\nb 2\n# EOF\n";
        let expected = "# HELP a_bytes_total Bytes of it\n# TYPE a_bytes_total counter\na_bytes_total{x=\"# HELP b c\"} 1\n\
                        # HELP b Others\n# TYPE b gauge\nb 2\n";
        assert_eq!(text(openmetrics).unwrap(), expected);
    }

    #[test]
    fn only_who_names_openmetrics_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5";
        assert_eq!(Format::for_accept(prometheus), Format::OpenMetrics);
        assert_eq!(Format::for_accept("text/plain;version=0.0.4, */*;q=0.1"), Format::Text);
        assert_eq!(Format::for_accept(""), Format::Text);
        assert_eq!(Format::for_accept(&"application/openmetrics-text,".repeat(100)), Format::Text);
    }
}
