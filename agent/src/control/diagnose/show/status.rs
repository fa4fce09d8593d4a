//! One agent at a glance.

use std::time::{Duration, SystemTime};

use super::style::{Style, Tone, short};
use crate::control::diagnose::dump::agent::{Counts, Dump};

/// So many problems are listed.
const LISTED: usize = 20;

/// Whether anything is not as it should be.
#[must_use]
pub fn is_fine(dump: &Dump) -> bool {
    let Counts { pods_waiting, certificates_missing, problems, .. } = dump.counts;
    dump.ready && pods_waiting == 0 && certificates_missing == 0 && problems == 0
}

/// The agent, and what is wrong.
#[must_use]
pub fn status(dump: &Dump, connections: usize, now: SystemTime, style: Style) -> String {
    let counts = dump.counts;
    let (word, tone) = if dump.ready { ("ready", Tone::Good) } else { ("not ready", Tone::Bad) };
    let mut text = format!("{}  {}\n", style.paint(Tone::Strong, &dump.config.node), style.paint(tone, word));
    let mut row = |name: &str, tone: Tone, what: &str| {
        text.push_str(&format!("  {name:<14}{}\n", style.paint(tone, what)));
    };
    let since = |at: &str| humantime::parse_rfc3339(at).ok().and_then(|at| now.duration_since(at).ok());
    let ago = |at: &str| since(at).map_or_else(|| "?".to_owned(), short);
    row("agent", Tone::Plain, &format!("sotto {}, up {}", dump.version, ago(&dump.started_at)));
    if !dump.pending.is_empty() {
        row("waits for", Tone::Bad, &dump.pending.join(", "));
    }
    let age = dump.state_since.as_deref().map_or_else(|| "?".to_owned(), ago);
    let loaded = if dump.state_loaded { "" } else { ", not loaded yet" };
    row(
        "mesh",
        if dump.state_loaded { Tone::Plain } else { Tone::Warning },
        &format!(
            "{}, {}, {}; state {} for {age}{loaded}",
            many(counts.workloads, "pod"),
            many(counts.services, "service"),
            if counts.policies == 1 { "1 policy".to_owned() } else { format!("{} policies", counts.policies) },
            dump.state_version
        ),
    );
    let waiting =
        if counts.pods_waiting > 0 { format!(", {} waiting (sotto pods)", counts.pods_waiting) } else { String::new() };
    row("pods here", bad_if(counts.pods_waiting > 0), &format!("{} carried{waiting}", counts.pods_carried));
    let missing = match counts.certificates_missing {
        0 => String::new(),
        missing => format!(", {missing} missing or expired (sotto certificates)"),
    };
    row(
        "certificates",
        bad_if(counts.certificates_missing > 0),
        &format!("{} valid{missing}", counts.certificates_valid),
    );
    row("connections", Tone::Plain, &format!("{connections} open"));
    if let Some(kubelet) = &dump.kubelet {
        match (&kubelet.cgroup, &kubelet.problem) {
            (_, Some(problem)) => row("kubelet", Tone::Warning, problem),
            (Some(cgroup), None) => row("kubelet", Tone::Plain, &cgroup.display().to_string()),
            (None, None) => row("kubelet", Tone::Faint, "none: probes count as clear text"),
        }
    }
    let dropped = match dump.log.dropped_lines {
        0 => String::new(),
        lines => format!(", {lines} lines dropped: standard output is not read fast enough"),
    };
    row("log", if dropped.is_empty() { Tone::Plain } else { Tone::Warning }, &format!("{}{dropped}", dump.log.filter));
    text + &problems(dump, style)
}

fn bad_if(bad: bool) -> Tone {
    if bad { Tone::Bad } else { Tone::Plain }
}

fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn problems(dump: &Dump, style: Style) -> String {
    let all = dump.counts.problems;
    let listed = dump.problems.iter().flatten().take(LISTED);
    let mut text: String =
        listed.map(|problem| format!("  {:<14}{}\n", "problem", style.paint(Tone::Bad, problem))).collect();
    if all > LISTED && dump.problems.is_some() {
        text.push_str(&format!("  {:<14}and {} more: sotto config-dump --section problems\n", "", all - LISTED));
    }
    text
}

/// How old a time of the dump is.
#[must_use]
pub fn age(at: &str, now: SystemTime) -> Option<Duration> {
    now.duration_since(humantime::parse_rfc3339(at).ok()?).ok()
}
