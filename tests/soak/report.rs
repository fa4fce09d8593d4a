//! What a soak says at its end.
#![expect(clippy::print_stdout, reason = "printing is what a report does")]

use std::fmt::Display;
use std::time::Duration;

use crate::growth::{Growth, Usage};
use crate::ledger::Ledger;
use crate::outages::End;
use crate::stage::Stage;
use crate::watch::Findings;

/// Everything that was found.
pub(crate) struct Report {
    lines: Vec<String>,
    problems: Vec<String>,
}

/// Prints a line.
pub(crate) fn say(text: impl Display) {
    println!("{text}");
}

impl Report {
    pub(crate) fn new(
        ledger: &Ledger,
        growth: Growth,
        wire: Findings,
        stage: &Stage,
        seed: u64,
        took: Duration,
    ) -> Self {
        let mut lines = vec![format!("\nseed {seed}, {took:.0?} of traffic")];
        lines.extend(connections(ledger));
        let steps: Vec<String> = ledger.steps().iter().map(|(what, count)| format!("{count} x {what}")).collect();
        lines.push(format!("\ndisturbances: {}", steps.join(", ")));
        let (crashes, ends) = (stage.outages.count(End::Killed), stage.outages.count(End::Terminated));
        let [crash, end] = [End::Killed, End::Terminated].map(|how| stage.outages.longest(how));
        lines.push(format!(
            "agents were away {} times ({crashes} crashes, at most {crash:.1?}; {ends} ends, at most {end:.1?})",
            crashes + ends
        ));
        lines.extend(usage(&growth));
        let (secret, open) = (wire.count(&stage.secret), wire.count(&stage.open));
        lines.push(format!(
            "\nwire: {} MB crossed; the text of pods outside the mesh seen {open} times, the mesh's secret {secret} times; {}",
            wire.bytes / 1_000_000,
            wire.missed
        ));
        let mut problems = ledger.problems();
        problems.extend(growth.problems());
        if secret > 0 {
            problems.push(format!("the secret crossed in clear {secret} times"));
        }
        if open == 0 {
            problems.push("clear text was not seen: the watch proves nothing".to_owned());
        }
        Self { lines, problems }
    }

    /// Whether nothing was found that should not be.
    pub(crate) fn passed(&self) -> bool {
        self.problems.is_empty()
    }

    pub(crate) fn print(&self) {
        self.lines.iter().for_each(say);
        if self.passed() {
            say("\nsoak passed: every failure had a reason, no secret crossed, nothing has grown");
        } else {
            say("\nsoak FAILED:");
            self.problems.iter().for_each(|problem| say(format_args!("  {problem}")));
        }
    }
}

fn connections(ledger: &Ledger) -> Vec<String> {
    let rows = ledger.rows();
    let total: u64 = rows.iter().map(|(_, done, _)| done).sum();
    let mut lines = vec![format!("\n{:<12} {:>9}  failures by cause", "connections", "well")];
    for (kind, done, failures) in rows {
        lines.push(format!("{:<12} {done:>9}  {}", format!("{kind:?}"), failures.join(", ")));
    }
    lines.push(format!("{:<12} {total:>9}", "all"));
    lines
}

fn usage(growth: &Growth) -> Vec<String> {
    let cell = |usage: Usage| format!("{:>7} {:>5} {:>5}", usage.rss, usage.fds, usage.threads);
    let head = format!("{:>7} {:>5} {:>5}", "KiB", "fds", "thr");
    let mut lines = vec![
        format!("\n{:<8} {:<19}  {:<19}  {:<19}  {:<19}", "", "start", "maximum", "undisturbed", "end"),
        format!("{:<8} {head}  {head}  {head}  {head}  open", ""),
    ];
    for (which, figures) in growth.figures() {
        let cells = [figures.start, figures.max, figures.steady.unwrap_or_default(), figures.end].map(cell);
        lines.push(format!("agent {which:?}  {}  {}", cells.join("  "), figures.open));
    }
    lines
}
