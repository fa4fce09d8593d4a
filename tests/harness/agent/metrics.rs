//! Prometheus' text format, read.

use std::collections::BTreeMap;

/// All samples of one scrape.
#[derive(Clone, Debug)]
pub struct Metrics(Vec<Sample>);

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(|line| sample(line).unwrap_or_else(|| panic!("not a metric: {line}"))).collect())
    }

    /// The sum of all samples of that name that have these labels; 0 if there are none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = |s: &&Sample| {
            s.name == name && labels.iter().all(|(key, value)| s.labels.get(*key).is_some_and(|v| v == value))
        };
        self.0.iter().filter(wanted).map(|s| s.value).sum()
    }
}

fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(key.trim_start_matches(',').trim().to_owned(), value);
            rest = after;
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Splits off what stands before the closing quote, unescaped.
pub(crate) fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_name_and_labels() {
        let metrics = Metrics::parse(
            "# HELP x y\n# TYPE x counter\nx_total{a=\"1\",b=\"say \\\"}\\\"\"} 2\nx_total{a=\"2\",b=\"\"} 3.5 1700000\nup 1\n",
        );
        assert_eq!(metrics.sum("x_total", &[]), 5.5);
        assert_eq!(metrics.sum("x_total", &[("b", "say \"}\"")]), 2.0);
        assert_eq!(metrics.sum("x_total", &[("a", "3")]), 0.0);
        assert_eq!(metrics.sum("up", &[]), 1.0);
    }
}
