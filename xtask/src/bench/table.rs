//! The report for a terminal.

use std::fmt::Write as _;

use super::bars::{BARS, BESIDE};
use super::figures::{Figure, GROUPS, baseline, multiple, named, number};
use super::results::Results;

/// Width of the names of figures.
const TITLE: usize = 40;
/// Width of a contestant's column.
const CELL: usize = 17;
/// Width of a column of ratios with what they lie between.
const PAIR: usize = 24;
/// Above this share of the machine that others used, no bar is judged.
const NOISE: f64 = 0.1;
/// The others.
const PEERS: &[&str] = &["envoy-tcp", "envoy-http", "ztunnel"];
/// Who is compared with whom.
const COMPARED: [(&str, &[&str]); 3] = [("sotto", PEERS), ("sotto-h2", PEERS), ("sotto", &["sotto-quiet"])];

/// Everything that was measured, as text.
pub(super) fn render(results: &Results) -> String {
    let mut text = String::from("\n");
    for (name, value) in results.facts() {
        let _ = writeln!(text, "{name:10} {value}");
    }
    for note in results.notes() {
        let _ = writeln!(text, "note: {note}");
    }
    text.push_str("\nMedian of all rounds and its multiple of what no mesh has (of the same kind); below, the least and the most.\n");
    for (group, figures) in GROUPS {
        let shown: Vec<_> = figures.iter().filter(|figure| is_there(results, figure)).collect();
        if shown.is_empty() {
            continue;
        }
        let _ = write!(text, "\n{group}\n{:TITLE$}", "");
        results.contestants().iter().for_each(|name| text.push_str(&format!("{name:>CELL$}")));
        text.push('\n');
        shown.iter().for_each(|figure| rows(&mut text, results, figure));
    }
    text.push_str(&peers(results));
    text.push_str(&bars(results));
    text
}

fn is_there(results: &Results, figure: &Figure) -> bool {
    results.contestants().iter().any(|contestant| results.spread(figure.id, contestant).is_some())
}

fn rows(text: &mut String, results: &Results, figure: &Figure) {
    let title = format!("{} [{}]", figure.title, figure.unit);
    let mut spreads = String::new();
    let mut differ = false;
    let mut row = format!("{title:TITLE$}");
    for contestant in results.contestants() {
        let Some(spread) = results.spread(figure.id, contestant) else {
            row.push_str(&format!("{:>CELL$}", "-"));
            spreads.push_str(&format!("{:>CELL$}", ""));
            continue;
        };
        let base = baseline(contestant);
        let ratio = (base != contestant).then(|| results.ratio(figure.id, contestant, base)).flatten();
        let ratio = ratio.map_or_else(String::new, |ratio| format!(" {}", multiple(ratio.median)));
        row.push_str(&format!("{:>CELL$}", format!("{}{ratio}", number(spread.median))));
        differ |= spread.min < spread.max;
        spreads.push_str(&format!("{:>CELL$}", format!("{}–{}", number(spread.min), number(spread.max))));
    }
    let _ = writeln!(text, "{}", row.trim_end());
    if differ {
        let _ = writeln!(text, "{:TITLE$}{}", "", spreads.trim_end());
    }
}

fn peers(results: &Results) -> String {
    let mut text = String::new();
    for (ours, others) in COMPARED {
        let there: Vec<_> =
            others.iter().filter(|peer| results.ratio("requests_per_s", ours, peer).is_some()).collect();
        if there.is_empty() {
            continue;
        }
        let _ = write!(text, "\n{:TITLE$}", format!("{ours} as a multiple of"));
        there.iter().for_each(|peer| text.push_str(&format!("{peer:>PAIR$}")));
        text.push('\n');
        for figure in GROUPS.iter().flat_map(|(_, figures)| *figures) {
            let cells: Vec<_> = there.iter().map(|peer| results.ratio(figure.id, ours, peer)).collect();
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(text, "{:TITLE$}", figure.title);
            for cell in cells {
                let shown = cell.map_or_else(
                    || "-".to_owned(),
                    |cell| format!("{} {}–{}", multiple(cell.median), multiple(cell.min), multiple(cell.max)),
                );
                text.push_str(&format!("{shown:>PAIR$}"));
            }
            text.push('\n');
        }
    }
    text
}

fn bars(results: &Results) -> String {
    let mut text = String::new();
    let noise = noise(results);
    let word = |met: bool| match (noise > NOISE, met) {
        (true, _) => "NOISE",
        (false, true) => "met",
        (false, false) => "NOT MET",
    };
    for bar in BARS {
        let Some(verdict) = bar.judge(results) else { continue };
        let what = named(bar.figure).map_or(bar.figure, |figure| figure.title.trim());
        let _ = writeln!(
            text,
            "{:8} {:11} / {:11} {what:36} {:>7.2}  wanted {}",
            word(verdict.met),
            bar.contestant,
            bar.peer,
            verdict.ratio,
            bar.wanted()
        );
    }
    if let Some(beside) = results.spread(BESIDE.0, "sotto") {
        let word = word(beside.median <= BESIDE.1);
        let _ = writeln!(
            text,
            "{word:8} {:11} / {:11} {:36} {:>7.2}  wanted ≤ {:.2}",
            "sotto", "itself", "p50 beside a bulk transfer / alone", beside.median, BESIDE.1
        );
    }
    if text.is_empty() {
        return text;
    }
    let doubt = if noise > NOISE {
        format!(
            "Other processes used up to {:.0} % of the machine: nothing is judged. Run it where nothing else runs.\n",
            noise * 100.0
        )
    } else {
        String::new()
    };
    format!("\nBars (contestant / peer)\n{doubt}{text}")
}

/// The share of the machine that other processes used, in the turns of the contestant that was disturbed most.
fn noise(results: &Results) -> f64 {
    let shares = results.contestants().iter().filter_map(|name| results.spread("others_share", name));
    shares.map(|share| share.median).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::super::results::sample;
    use super::*;

    #[test]
    fn nothing_is_judged_on_a_machine_that_others_use() {
        let mut document: serde_json::Value = serde_json::from_str(&sample().json()).unwrap();
        let share = serde_json::json!({ "contestant": "plain", "figure": "others_share", "round": 0, "value": 0.4 });
        document["samples"].as_array_mut().unwrap().push(share);
        let text = render(&Results::parse(&document.to_string()).unwrap());
        assert!(text.contains("used up to 40 %") && text.contains("NOISE    sotto"), "{text}");
        assert!(!text.contains("met      sotto"), "{text}");
    }

    #[test]
    fn a_figure_has_its_median_its_ratio_and_its_spread() {
        let text = render(&sample());
        let row = text.lines().find(|line| line.starts_with("requests, 16")).unwrap();
        assert!(row.contains("54.0 0.50x") && row.contains("22.0 0.20x"), "{text}");
        assert!(text.contains("50.0–66.0"), "{text}");
        assert!(text.contains("2.50x 1.80x–3.00x"), "{text}");
        assert!(text.contains("met      sotto       / ztunnel     requests, 16 connections"), "{text}");
    }
}
