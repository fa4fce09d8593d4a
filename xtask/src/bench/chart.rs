//! One figure as bars, in SVG.

use std::fmt::Write as _;

use super::figures::{Figure, number};
use super::results::Results;

const WIDTH: f64 = 560.0;
const LABEL: f64 = 96.0;
const VALUE: f64 = 110.0;
const ROW: f64 = 24.0;

/// The chart; empty where nobody has the figure.
pub(super) fn svg(results: &Results, figure: &Figure) -> String {
    let rows: Vec<_> = results
        .contestants()
        .iter()
        .filter_map(|contestant| Some((contestant, results.spread(figure.id, contestant)?)))
        .collect();
    let top = rows.iter().map(|(_, spread)| spread.max).fold(0.0, f64::max);
    if top <= 0.0 {
        return String::new();
    }
    let height = ROW * rows.len() as f64 + 8.0;
    let scale = (WIDTH - LABEL - VALUE) / top;
    let mut text =
        format!("<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n");
    for (number_of_row, (contestant, spread)) in rows.iter().enumerate() {
        let y = 4.0 + ROW * number_of_row as f64;
        let middle = y + ROW / 2.0 - 2.0;
        let class = contestant.split('-').next().unwrap_or_default();
        let x = |value: f64| LABEL + value * scale;
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{contestant}</text>\
             <rect class=\"{class}\" x=\"{LABEL}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" rx=\"2\"/>\
             <path class=\"whisker\" d=\"M{:.1} {middle}H{:.1}\"/>\
             <text class=\"value\" x=\"{:.1}\" y=\"{}\">{} {}</text>",
            LABEL - 8.0,
            middle + 4.0,
            spread.median * scale,
            ROW - 6.0,
            x(spread.min),
            x(spread.max),
            x(spread.max) + 6.0,
            middle + 4.0,
            number(spread.median),
            figure.unit,
        );
    }
    text.push_str("</svg>\n");
    text
}
