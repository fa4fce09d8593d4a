//! Runs the tiers one after the other, all of them even when one fails.

use std::io::{Read, Write, stdout};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use super::Totals;
use super::stage::Stage;
use super::tier::Tier;
use super::totals::{Counter, listed};
use crate::build::{Profile, binary};
use crate::cluster::programs::is_unreachable;
use crate::ebpf;
use crate::process::{Task, seconds, shown};
use crate::setup::prepare;
use crate::workspace::{Workspace, on_path, setting};

/// Names a ztunnel binary; tests against it are `#[ignore]`d without.
const ZTUNNEL: &str = "ZTUNNEL_BIN";

/// The arguments of the command.
#[derive(Args, Default)]
pub(crate) struct Selection {
    /// Tiers to run; all when none is named.
    tiers: Vec<Tier>,
    /// Name the tests, do not run them.
    #[arg(long)]
    list: bool,
    /// Tests of the netns tier that run at once; as many as there are cores when not given.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Handed to every test program: a part of the names of the tests to run, or libtest's options.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// The command: prints one closing line, and fails if a test did.
pub(crate) fn run(workspace: &Workspace, selection: &Selection) -> Result<ExitCode> {
    if selection.list {
        return list(workspace, selection);
    }
    let totals = run_all(workspace, selection)?;
    println!("{totals}");
    Ok(if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the selected tiers and adds up what they say. An error means that nothing could be run.
pub(crate) fn run_all(workspace: &Workspace, selection: &Selection) -> Result<Totals> {
    prepare::test_tools()?;
    let sotto = if selection.needs_agent() {
        ebpf::build(workspace)?;
        Some(binary(workspace, "sotto", "sotto", Profile::Dev)?)
    } else {
        None
    };
    let mut totals = Totals::default();
    let mut notes = Vec::new();
    for tier in selection.selected() {
        let runs = tier.runs(workspace);
        if runs.is_empty() {
            notes.push(format!("{}: this tree has no test program of that name", tier.name()));
            continue;
        }
        let mut obstacles = tier.obstacles();
        if obstacles.is_empty() {
            match run_tier(workspace, tier, &runs, selection, sotto.as_deref()) {
                Ok((counted, note)) => {
                    totals += counted;
                    notes.extend(note);
                }
                Err(error) if is_unreachable(&error) => obstacles.push(format!("{error:#}")),
                Err(error) => {
                    println!("{} could not be run: {error:#}", tier.name());
                    totals.failed += 1;
                }
            }
        }
        if !obstacles.is_empty() {
            let count = count_tests(workspace, &runs);
            totals.skipped += count;
            notes.push(format!("{} ({count} tests): {}", tier.name(), obstacles.join("; ")));
        }
    }
    if setting(ZTUNNEL).is_none() {
        notes.push(format!("tests against ztunnel: {ZTUNNEL} is not set"));
    }
    if selection.selected().contains(&Tier::Deploy) && on_path("kubectl").is_none() {
        notes.push("deploy: the chart was not held against kustomize: kubectl is missing".into());
    }
    println!();
    notes.iter().for_each(|note| println!("not run: {note}"));
    Ok(totals)
}

impl Selection {
    fn selected(&self) -> Vec<Tier> {
        Tier::ALL.into_iter().filter(|tier| self.tiers.is_empty() || self.tiers.contains(tier)).collect()
    }

    fn needs_agent(&self) -> bool {
        self.selected().into_iter().any(Tier::needs_agent)
    }

    /// What follows `--` in `cargo test`.
    fn libtest(&self, tier: Tier) -> Vec<String> {
        let mut arguments = Vec::new();
        if tier == Tier::Netns {
            let cores = available_parallelism().map_or(1, usize::from);
            arguments.push(format!("--test-threads={}", self.threads.unwrap_or(cores).max(1)));
        }
        if setting(ZTUNNEL).is_some() && tier != Tier::Unit {
            arguments.push("--include-ignored".into());
        }
        arguments.extend(self.arguments.iter().cloned());
        arguments
    }
}

fn run_tier(
    workspace: &Workspace,
    tier: Tier,
    runs: &[Vec<String>],
    selection: &Selection,
    sotto: Option<&Path>,
) -> Result<(Totals, Option<String>)> {
    println!("\n== {} ==", tier.name());
    let started = Instant::now();
    let stage = Stage::prepare(tier, workspace, sotto)?;
    let mut totals = Totals::default();
    for run in runs {
        let mut command = test_command(workspace, run);
        command.arg("--").args(selection.libtest(tier)).envs(sotto.map(|sotto| ("SOTTO_BIN", sotto)));
        command.envs(stage.environment());
        totals += counted(&mut command, &mut stdout())?;
    }
    let note = stage.note.clone();
    stage.clear()?;
    println!("== {}: {} failed, {} ==", tier.name(), totals.failed, seconds(started.elapsed()));
    Ok((totals, note))
}

/// Every program runs to its end although one before it failed.
fn test_command(workspace: &Workspace, run: &[String]) -> Command {
    let mut command = workspace.cargo(&["test", "--locked", "--no-fail-fast"]);
    command.args(run);
    command
}

/// Runs with the output both shown as it comes and counted. A run that fails without a failed test (it did not build, or
/// crashed) is one failure.
fn counted(command: &mut Command, terminal: &mut impl Write) -> Result<Totals> {
    command.stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", shown(command)))?;
    let mut counter = Counter::default();
    let mut pipe = child.stdout.take().context("a piped output is there")?;
    let mut buffer = [0; 8192];
    loop {
        let count = pipe.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        terminal.write_all(&buffer[..count])?;
        terminal.flush()?;
        counter.feed(&buffer[..count]);
    }
    let status = child.wait()?;
    let mut totals = counter.totals;
    if !status.success() && totals.failed == 0 {
        totals.failed = 1;
        writeln!(terminal, "failed before or between its tests ({status}): {}", shown(command))?;
    }
    Ok(totals)
}

/// How many tests a tier that cannot run would have. One that does not even build counts as one.
fn count_tests(workspace: &Workspace, runs: &[Vec<String>]) -> u64 {
    let count = |run: &Vec<String>| {
        let mut command = test_command(workspace, run);
        command.args(["--quiet", "--", "--list"]);
        Task::new("list the tests", command).output().map_or(1, |output| listed(&output))
    };
    runs.iter().map(count).sum()
}

fn list(workspace: &Workspace, selection: &Selection) -> Result<ExitCode> {
    if selection.needs_agent() {
        ebpf::build(workspace)?;
    }
    for tier in selection.selected() {
        let obstacles = tier.obstacles();
        let note =
            if obstacles.is_empty() { "runs here".to_owned() } else { format!("cannot run: {}", obstacles.join("; ")) };
        println!("\n== {}: {note} ==", tier.name());
        for run in tier.runs(workspace) {
            let mut command = test_command(workspace, &run);
            command.args(["--quiet", "--", "--list"]).args(&selection.arguments);
            Task::new("list the tests", command).stream()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_programs_say_is_shown_and_counted() {
        let line = "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n";
        let mut shown = Vec::new();
        let totals = counted(&mut shell(&format!("printf '{line}{line}'")), &mut shown).unwrap();
        assert_eq!(totals, Totals { passed: 4, failed: 0, skipped: 2 });
        assert_eq!(String::from_utf8(shown).unwrap(), line.repeat(2));
    }

    #[test]
    fn a_run_that_dies_without_a_word_is_a_failure() {
        let mut shown = Vec::new();
        assert_eq!(counted(&mut shell("exit 101"), &mut shown).unwrap().failed, 1);
        assert!(String::from_utf8(shown).unwrap().contains("exit status: 101"));
        let line = "test result: FAILED. 0 passed; 3 failed; 0 ignored";
        assert_eq!(counted(&mut shell(&format!("echo '{line}'; exit 101")), &mut Vec::new()).unwrap().failed, 3);
    }

    #[test]
    fn no_tier_means_every_tier_and_the_order_is_fixed() {
        assert_eq!(Selection::default().selected(), Tier::ALL);
        let named = Selection { tiers: vec![Tier::Netns, Tier::Unit], ..Selection::default() };
        assert_eq!(named.selected(), [Tier::Unit, Tier::Netns]);
    }

    #[test]
    fn only_the_netns_tier_is_held_to_a_number_of_threads() {
        let selection = Selection { threads: Some(3), arguments: vec!["joins".into()], ..Selection::default() };
        assert!(selection.libtest(Tier::Netns).starts_with(&["--test-threads=3".to_owned()]));
        assert_eq!(selection.libtest(Tier::Unit), ["joins"]);
    }
}
