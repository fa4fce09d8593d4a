//! What a run has measured: every value, and the medians and ratios that reports are made of.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

/// All values of a run.
pub(super) struct Results {
    document: Value,
    /// By figure and contestant: round and value.
    values: BTreeMap<(String, String), Vec<(u64, f64)>>,
    contestants: Vec<String>,
}

/// A median and what it lies between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Results {
    /// Reads what the benchmark, or `--json`, has written.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not what `cargo xtask bench --json` writes", file.display()))
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let document: Value = serde_json::from_str(text)?;
        let mut values: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut contestants = Vec::new();
        for sample in document["samples"].as_array().context("no list `samples`")? {
            let text = |name: &str| {
                sample[name].as_str().map(str::to_owned).with_context(|| format!("a sample without {name}"))
            };
            let (contestant, figure) = (text("contestant")?, text("figure")?);
            let value = sample["value"].as_f64().with_context(|| format!("{figure} of {contestant} has no value"))?;
            if !contestants.contains(&contestant) {
                contestants.push(contestant.clone());
            }
            values.entry((figure, contestant)).or_default().push((sample["round"].as_u64().unwrap_or(0), value));
        }
        Ok(Self { document, values, contestants })
    }

    /// Adds what is known of the machine.
    pub(super) fn set_facts(&mut self, facts: Vec<(&'static str, String)>) {
        let place = &mut self.document["facts"];
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        for (name, value) in facts {
            place[name] = Value::String(value);
        }
    }

    /// Everything, to be read again.
    pub(super) fn json(&self) -> String {
        format!("{:#}\n", self.document)
    }

    /// Every value, one a line.
    pub(super) fn csv(&self) -> String {
        let mut text = String::from("figure,contestant,round,value\n");
        for ((figure, contestant), values) in &self.values {
            for (round, value) in values {
                text.push_str(&format!("{figure},{contestant},{round},{value}\n"));
            }
        }
        text
    }

    /// What is known of the run and the machine.
    pub(super) fn facts(&self) -> Vec<(String, String)> {
        let facts = self.document["facts"].as_object().into_iter().flatten();
        facts
            .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect()
    }

    /// What a reader has to know.
    pub(super) fn notes(&self) -> Vec<String> {
        let notes = self.document["notes"].as_array().into_iter().flatten();
        notes.filter_map(|note| note.as_str().map(str::to_owned)).collect()
    }

    /// Those that had a turn, in their order.
    pub(super) fn contestants(&self) -> &[String] {
        &self.contestants
    }

    /// A contestant's figure over all rounds.
    pub(super) fn spread(&self, figure: &str, contestant: &str) -> Option<Spread> {
        spread(self.of(figure, contestant)?.iter().map(|(_, value)| *value))
    }

    /// A contestant's figure as a multiple of another's, round by round: what drifts over a run drifts for both.
    pub(super) fn ratio(&self, figure: &str, contestant: &str, base: &str) -> Option<Spread> {
        let base = self.of(figure, base)?;
        let own = self.of(figure, contestant)?;
        let pairs = own.iter().filter_map(|(round, value)| {
            let (_, other) = base.iter().find(|(other, _)| other == round)?;
            (*other > 0.0).then(|| value / other)
        });
        spread(pairs)
    }

    fn of(&self, figure: &str, contestant: &str) -> Option<&Vec<(u64, f64)>> {
        self.values.get(&(figure.to_owned(), contestant.to_owned()))
    }
}

fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
    Some(Spread { median, min, max })
}

#[cfg(test)]
pub(super) fn sample() -> Results {
    let mut samples = Vec::new();
    for (contestant, values) in
        [("plain", [100.0, 120.0, 110.0]), ("ztunnel", [20.0, 30.0, 22.0]), ("sotto", [50.0, 54.0, 66.0])]
    {
        for (round, value) in values.iter().enumerate() {
            samples.push(serde_json::json!({ "contestant": contestant, "figure": "requests_per_s", "round": round, "value": value }));
        }
    }
    let document = serde_json::json!({ "facts": { "cores": 2 }, "notes": ["<quiet>"], "samples": samples });
    Results::parse(&document.to_string()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_ratios() {
        let results = sample();
        assert_eq!(results.spread("requests_per_s", "sotto"), Some(Spread { median: 54.0, min: 50.0, max: 66.0 }));
        let ratio = results.ratio("requests_per_s", "sotto", "ztunnel").unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.5, 1.8, 3.0));
        assert_eq!(results.ratio("requests_per_s", "sotto", "envoy-tcp"), None);
    }

    #[test]
    fn what_was_written_can_be_read_again() {
        let mut results = sample();
        results.set_facts(vec![("kernel", "6.1".into())]);
        let again = Results::parse(&results.json()).unwrap();
        assert_eq!(again.csv(), results.csv());
        assert!(again.facts().contains(&("kernel".into(), "6.1".into())));
        assert_eq!(again.csv().lines().count(), 10);
    }
}
