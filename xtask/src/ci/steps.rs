//! `cargo xtask ci`: everything that continuous integration checks, cheap steps first.

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::{deny, instructions};
use crate::process::{Task, seconds};
use crate::setup::prepare;
use crate::tiers::Totals;
use crate::tiers::runner::{Selection, run_all};
use crate::workspace::Workspace;
use crate::{ebpf, tidy};

/// How a step went: what there is to say about it, or what went wrong.
type Outcome = Result<String>;

/// What was done so far.
struct Report {
    rows: Vec<(&'static str, Duration, Outcome)>,
    totals: Option<Totals>,
}

/// The command. Stops at the first step that fails; the closing line of the tests comes last.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let mut report = Report { rows: Vec::new(), totals: None };
    let complete = steps(workspace, &mut report);
    print!("\n{}", report.table());
    if let Some(totals) = report.totals {
        println!("{totals}");
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn steps(workspace: &Workspace, report: &mut Report) -> bool {
    let lock = workspace.root.join("Cargo.lock");
    let lock_before = fs::read(&lock).ok();
    let cargo = |what: &str, arguments: &[&str], remedy: &str| {
        Task::new(what, workspace.cargo(arguments)).remedy(remedy).stream().map(|()| String::new())
    };
    report.step("tidy", || tidy::report::check(workspace).map(|()| String::new()))
        && report.step("fmt", || {
            cargo(
                "check the format",
                &["fmt", "--all", "--check"],
                "`cargo fmt --all` (`rustup component add rustfmt`)",
            )
        })
        && report.step("setup", || {
            prepare::toolchain()?;
            prepare::test_tools().map(|()| String::new())
        })
        && report.step("ebpf", || ebpf::build(workspace).map(|_| String::new()))
        && report.step("clippy", || {
            let arguments = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
            cargo("lint", &arguments, "mend the lines above (`rustup component add clippy`)")
        })
        && report.step("doc", || doc(workspace))
        && report.tests(workspace)
        && report.step("counts", || instructions::check(workspace))
        && report.step("deny", || Ok(deny::check(workspace)?.unwrap_or_default()))
        && report.step("lock", || {
            ensure!(fs::read(&lock).ok() == lock_before, "Cargo.lock was changed by a step: commit it as it is now");
            Ok(String::new())
        })
}

fn doc(workspace: &Workspace) -> Outcome {
    let mut command = workspace.cargo(&["doc", "--locked", "--workspace", "--no-deps", "--quiet"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    Task::new("build the documentation", command).remedy("mend the doc comments above").stream()?;
    Ok(String::new())
}

impl Report {
    /// Runs one step and says whether to go on.
    fn step(&mut self, name: &'static str, work: impl FnOnce() -> Outcome) -> bool {
        println!("\n=== {name}");
        let started = Instant::now();
        let outcome = work();
        if let Err(error) = &outcome {
            println!("{name} failed: {error:#}");
        }
        let good = outcome.is_ok();
        self.rows.push((name, started.elapsed(), outcome));
        good
    }

    fn tests(&mut self, workspace: &Workspace) -> bool {
        let mut totals = None;
        let good = self.step("test", || {
            let sum = *totals.insert(run_all(workspace, &Selection::default())?);
            if sum.failed == 0 { Ok(sum.to_string()) } else { bail!("{sum}") }
        });
        self.totals = totals;
        good
    }

    fn table(&self) -> String {
        let mut text = String::new();
        for (name, took, outcome) in &self.rows {
            let (word, note) = match outcome {
                Ok(note) => ("ok", note.clone()),
                Err(error) => ("FAILED", error.to_string().lines().next().unwrap_or_default().to_owned()),
            };
            let row = format!("{name:8}{:>12}  {word:6}  {note}", seconds(*took));
            text.push_str(row.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report { rows: Vec::new(), totals: None }
    }

    #[test]
    fn a_failed_step_stops_the_run_and_keeps_its_first_line() {
        let mut report = report();
        assert!(report.step("fmt", || Ok(String::new())));
        assert!(!report.step("clippy", || bail!("could not lint\n  ran: cargo clippy")));
        let table = report.table();
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].starts_with("fmt") && lines[0].ends_with("ok"), "{table}");
        assert!(lines[1].contains("FAILED  could not lint") && !table.contains("cargo clippy"), "{table}");
    }

    #[test]
    fn a_note_stands_beside_its_step() {
        let mut report = report();
        report.step("deny", || Ok("advisories not checked".into()));
        assert!(report.table().trim_end().ends_with("ok      advisories not checked"));
    }
}
