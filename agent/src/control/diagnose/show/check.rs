//! Checks, one line each.

use super::style::{Style, Tone};
use crate::control::diagnose::check::{Finding, Outcome};

/// The findings, and what they come to.
#[must_use]
pub fn findings(findings: &[Finding], style: Style) -> String {
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { check, outcome, what, fix } in findings {
        let (word, tone) = match outcome {
            Outcome::Ok => ("ok", Tone::Good),
            Outcome::Skipped => ("skip", Tone::Faint),
            Outcome::Warning => ("warn", Tone::Warning),
            Outcome::Failed => ("FAIL", Tone::Bad),
        };
        let mark = style.paint(tone, word) + &" ".repeat(4 - word.len());
        let what = style.paint(Tone::Plain, what);
        text.push_str(&format!("{mark}  {check:<width$}  {what}\n"));
        if let Some(fix) = fix {
            text.push_str(&format!("      {:<width$}  {}\n", "", style.paint(Tone::Strong, &format!("→ {fix}"))));
        }
    }
    let count = |wanted: Outcome| findings.iter().filter(|finding| finding.outcome == wanted).count();
    let (failed, warnings) = (count(Outcome::Failed), count(Outcome::Warning));
    let plural = if warnings == 1 { "" } else { "s" };
    let (tone, sum) = match failed {
        0 => (Tone::Good, format!("nothing stands in the way, {warnings} warning{plural}")),
        _ => (Tone::Bad, format!("{failed} of {} checks failed, {warnings} warning{plural}", findings.len())),
    };
    text + "\n" + &style.paint(tone, &sum) + "\n"
}
