//! The report as one HTML file that needs no other.

use std::fmt::Write as _;

use super::chart;
use super::figures::{GROUPS, baseline, multiple, number};
use super::results::Results;
use super::table;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}\
h1{font-size:1.6rem}h2{margin-top:2.2rem;border-bottom:1px solid #d5dbe3}h3{font-size:1rem;margin:1rem 0 .2rem}\
table{border-collapse:collapse;font-size:.85rem}td,th{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #e6eaef;white-space:nowrap}\
td:first-child,th:first-child{text-align:left}small{color:#66707d}\
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(560px,1fr));gap:.5rem 1.5rem}\
svg text{font-size:12px;fill:#1c2430}svg .value{fill:#44505e}rect{fill:#9aa7b5}rect.plain{fill:#c3ccd6}rect.sotto{fill:#1f7a5c}\
rect.envoy{fill:#b0569b}rect.ztunnel{fill:#4a6fd4}.whisker{stroke:#1c2430;stroke-width:1.5;fill:none;opacity:.6}\
pre{background:#f4f6f8;padding:1rem;overflow-x:auto;font-size:.8rem}";

/// The whole file.
pub(super) fn render(results: &Results) -> String {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>sotto: benchmark</title><style>{STYLE}</style></head><body>\n\
         <h1>What carrying traffic costs</h1>\n\
         <p>Each contestant had its turn in each round, on the same cores and under the same load, with access log, metrics and policy on. \
         Bars are medians, the lines on them go from the least to the most. Ratios are to no mesh, round by round.</p>\n"
    );
    text.push_str("<table>\n");
    for (name, value) in results.facts() {
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td style=\"text-align:left\">{}</td></tr>",
            escaped(&name),
            escaped(&value)
        );
    }
    text.push_str("</table>\n<ul>\n");
    for note in results.notes() {
        let _ = writeln!(text, "<li>{}</li>", escaped(&note));
    }
    text.push_str("</ul>\n");
    for (group, figures) in GROUPS {
        let charts: Vec<_> = figures
            .iter()
            .map(|figure| (figure, chart::svg(results, figure)))
            .filter(|(_, chart)| !chart.is_empty())
            .collect();
        if charts.is_empty() {
            continue;
        }
        let _ = writeln!(text, "<h2>{}</h2>\n<div class=\"charts\">", escaped(group));
        let mut above = "";
        for (figure, chart) in &charts {
            // A chart stands alone: what is a part of the figure above it says so.
            let title = figure.title.strip_prefix("  ").map(|part| format!("{above}: {part}"));
            if title.is_none() {
                above = figure.title;
            }
            let title = title.unwrap_or_else(|| figure.title.to_owned());
            let better = if figure.more { "more is better" } else { "less is better" };
            let _ = writeln!(
                text,
                "<div><h3>{} <small>{}, {better}</small></h3>{chart}</div>",
                escaped(&title),
                figure.unit
            );
        }
        text.push_str("</div>\n");
        text.push_str(&numbers(results, &charts.iter().map(|(figure, _)| **figure).collect::<Vec<_>>()));
    }
    let _ = writeln!(text, "<h2>As text</h2>\n<pre>{}</pre>\n</body></html>", escaped(&table::render(results)));
    text
}

fn numbers(results: &Results, figures: &[super::figures::Figure]) -> String {
    let mut text = String::from("<details><summary>Numbers</summary><table><tr><th></th>");
    for contestant in results.contestants() {
        let _ = write!(text, "<th>{}</th>", escaped(contestant));
    }
    text.push_str("</tr>\n");
    for figure in figures {
        let _ = write!(text, "<tr><td>{} [{}]</td>", escaped(figure.title), figure.unit);
        for contestant in results.contestants() {
            let cell = results.spread(figure.id, contestant).map_or_else(String::new, |spread| {
                let base = baseline(contestant);
                let ratio = (base != contestant).then(|| results.ratio(figure.id, contestant, base)).flatten();
                let ratio = ratio.map_or_else(String::new, |ratio| format!(" <b>{}</b>", multiple(ratio.median)));
                format!("{}{ratio} <small>{}–{}</small>", number(spread.median), number(spread.min), number(spread.max))
            });
            let _ = write!(text, "<td>{cell}</td>");
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</table></details>\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::results::sample;
    use super::*;

    #[test]
    fn the_file_has_charts_and_lets_no_text_become_markup() {
        let text = render(&sample());
        assert!(text.contains("<svg") && text.contains("class=\"sotto\""), "{text}");
        assert!(text.contains("&lt;quiet&gt;") && !text.contains("<quiet>"));
        assert!(!text.contains("http://") && !text.contains("https://"), "needs nothing from elsewhere");
    }
}
