//! The command: tools, builds, the benchmark itself, and its report.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::results::Results;
use super::{html, machine, table, tools};
use crate::build::{Profile, binary};
use crate::ebpf;
use crate::setup::prepare;
use crate::tiers::machine as machine_can;
use crate::workspace::Workspace;

/// The arguments of the command.
#[derive(Args)]
pub(crate) struct Options {
    /// One round of one second each, without joining and upgrading, in less than two minutes: says whether something is badly wrong, not more
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,

    /// How often each contestant has its turn [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,

    /// How long each load is put on, in seconds [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: Option<u32>,

    /// Contestants that have a turn, with commas between; all but the last when none is named: plain, plain-local, envoy-tcp, envoy-http,
    /// ztunnel, sotto, sotto-h2, sotto-local, sotto-quiet
    #[arg(long, value_name = "NAMES")]
    only: Option<String>,

    /// What is measured, with commas between; everything when nothing is named: throughput, requests, connections, latency, beside, memory,
    /// lifecycle, pods, size
    #[arg(long, value_name = "NAMES")]
    figures: Option<String>,

    /// Requests a second of the load at a fixed rate [default: 4000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..=1_000_000))]
    rate: Option<u32>,

    /// How many cores everything shares [default: 2]
    #[arg(long, value_name = "N")]
    cores: Option<u32>,

    /// Another `sotto` than the one of this tree
    #[arg(long, value_name = "FILE")]
    sotto: Option<PathBuf>,

    /// Measures nothing: profiles the proxies under each load with perf, and writes there where their time goes
    #[arg(long, value_name = "DIR", conflicts_with_all = ["json", "csv", "html", "from"])]
    profile: Option<PathBuf>,

    /// Writes every value there, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Writes every value there, one a line
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Writes a report with charts there, one file that needs no other
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Measures nothing: makes the report of what an earlier run wrote with --json
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// The command. Its exit code says whether everything could be measured, not how anybody did.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let (results, complete) = match &options.from {
        Some(file) => (Results::read(file)?, true),
        None => measure(workspace, options)?,
    };
    if options.profile.is_none() {
        print!("{}", table::render(&results));
    }
    if let Some(file) = &options.json {
        write(file, &results.json())?;
    }
    if let Some(file) = &options.csv {
        write(file, &results.csv())?;
    }
    if let Some(file) = &options.html {
        write(file, &html::render(&results))?;
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the benchmark. What it had measured counts also when it failed before its end.
fn measure(workspace: &Workspace, options: &Options) -> Result<(Results, bool)> {
    prepare::test_tools()?;
    machine_can::require_netns("the benchmark")?;
    let tools = tools::ensure()?;
    let sotto = match &options.sotto {
        Some(file) => file.clone(),
        None => {
            ebpf::build(workspace)?;
            binary(workspace, "sotto", "sotto", Profile::Release)?
        }
    };
    ensure!(sotto.is_file(), "--sotto: there is no {}", sotto.display());
    // Nothing of it is hot: the load comes from other programs, and its own waits for answers.
    let bench = binary(workspace, "sotto-tests", "bench", Profile::Dev)?;
    let out = workspace.target_dir.join("bench.json");
    let _ = fs::remove_file(&out);
    let mut command = Command::new(&bench);
    command.arg("--out").arg(&out).env("SOTTO_BIN", &sotto).env("SOTTO_BENCH_TOOLS", tools.setting());
    command.args(options.arguments()).current_dir(&workspace.root);
    let status = command.status().with_context(|| format!("cannot start {}", bench.display()))?;
    ensure!(out.is_file(), "the benchmark ended ({status}) before it had measured anything: its last lines say why");
    let mut results = Results::read(&out)?;
    results.set_facts(machine::facts(workspace, &tools, &sotto, options.sotto.is_none()));
    if !status.success() {
        println!("\nThe benchmark failed before its end; what follows is what it had measured by then.");
    }
    Ok((results, status.success()))
}

impl Options {
    fn arguments(&self) -> Vec<String> {
        let (rounds, seconds) = if self.quick { (Some(1), Some(1)) } else { (self.rounds, self.seconds) };
        let numbers = [("rounds", rounds), ("seconds", seconds), ("rate", self.rate), ("cores", self.cores)];
        let numbers = numbers.into_iter().filter_map(|(name, value)| Some((name, value?.to_string())));
        let profile = self.profile.as_ref().map(|folder| format!("--profile={}", folder.display()));
        let flags = self.quick.then(|| "--quick".to_owned()).into_iter().chain(profile);
        let lists = [("only", &self.only), ("figures", &self.figures)];
        let lists = lists.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        numbers.chain(lists).map(|(name, value)| format!("--{name}={value}")).chain(flags).collect()
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("written: {}", file.display());
    Ok(())
}
