//! `cargo xtask fuzz`: the fuzz targets of tests/fuzz under libFuzzer, one after the other, with a verdict for each.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::cache::Cache;
use crate::process::{Task, seconds, shown};
use crate::workspace::{Workspace, cargo, on_path};

/// The release of cargo-fuzz that we build when none is on `PATH`.
const VERSION: &str = "0.13.2";
/// Where the targets are, from the root of the workspace.
const FOLDER: &str = "tests/fuzz";
/// An input that takes longer than this is a finding, in seconds.
const SLOWEST: u64 = 20;
/// So is one that takes more memory than this, in MiB; ten times what the largest target needs with the sanitizer.
const MEMORY: u64 = 2048;
/// How often a running target shows where it is.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The arguments of the command.
#[derive(Args)]
pub(crate) struct Options {
    /// Targets to run; all when none is named.
    targets: Vec<String>,
    /// How long each target runs, in seconds [default: 60, or 1 with --smoke].
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// The seeds and random mutations of them without libFuzzer: needs no nightly compiler.
    #[arg(long)]
    smoke: bool,
    /// Find misuse of memory in unsafe code too (`address`), or run faster (`none`).
    #[arg(long, value_name = "NAME", default_value = "address", value_parser = ["address", "none"])]
    sanitizer: String,
}

/// How one target ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    /// How many inputs were tried.
    executions: u64,
    /// Code edges that were reached, as libFuzzer counts them.
    coverage: u64,
    /// The file with the input that broke the target.
    finding: Option<String>,
}

/// The command. Every target runs, whatever those before it found.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    if options.smoke {
        return smoke(workspace, options);
    }
    nightly()?;
    let fuzz = Fuzz { workspace, program: program()?, sanitizer: &options.sanitizer };
    let corpus = workspace.root.join(FOLDER).join("corpus");
    let known = seeds(workspace, &corpus)?;
    let chosen = choose(&known, &options.targets)?;
    fuzz.build(&chosen)?;
    let limit = options.seconds.unwrap_or(60);
    let mut rows = Vec::new();
    for target in &chosen {
        rows.push((*target, fuzz.target(target, &corpus, limit)));
    }
    println!();
    let mut good = true;
    for (target, verdict) in &rows {
        println!("{target:16} {}", describe(verdict));
        good &= verdict.as_ref().is_ok_and(|verdict| verdict.finding.is_none());
    }
    let sum: u64 = rows.iter().filter_map(|(_, verdict)| Some(verdict.as_ref().ok()?.executions)).sum();
    println!(
        "{} targets, {sum} executions: {}",
        rows.len(),
        if good { "nothing found" } else { "FINDINGS, see above" }
    );
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn smoke(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let mut command = workspace.cargo(&["test", "--locked", "-p", "sotto-fuzz", "--test", "smoke", "--"]);
    command.args(["--nocapture", "--exact"]).args(&options.targets);
    command.env("SOTTO_FUZZ_SECONDS", options.seconds.unwrap_or(1).to_string());
    Task::new("keep every promise under mutated seeds", command)
        .remedy("save the bytes above in tests/fuzz/seeds/<target>/ and mend what they break")
        .stream()?;
    Ok(ExitCode::SUCCESS)
}

/// Whether there is a nightly compiler, which alone takes the flags that make a program tell what it covers.
fn nightly() -> Result<()> {
    let mut command = rustup();
    command.args(["rustc", "--version"]);
    Task::new("find a nightly compiler, which libFuzzer needs", command)
        .remedy("`rustup toolchain install nightly --profile minimal`; without one, `cargo xtask fuzz --smoke`")
        .output()
        .map(|_| ())
}

/// A command of the nightly toolchain, free of what the Cargo that runs us has set for its own.
fn rustup() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly"]);
    for name in ["CARGO", "RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}

/// Writes seeds and dictionaries where libFuzzer looks for them. Returns the names of the targets.
fn seeds(workspace: &Workspace, corpus: &Path) -> Result<Vec<String>> {
    println!("write the seeds …");
    let mut command = workspace.cargo(&["run", "--locked", "--quiet", "-p", "sotto-fuzz", "--bin", "seeds", "--"]);
    command.arg(corpus);
    let names =
        Task::new("write the seeds", command).remedy("the targets must build: see the errors above").output()?;
    Ok(names.lines().map(str::to_owned).collect())
}

fn choose<'a>(known: &'a [String], wanted: &[String]) -> Result<Vec<&'a str>> {
    for name in wanted {
        ensure!(known.contains(name), "there is no fuzz target `{name}`; there are: {}", known.join(", "));
    }
    Ok(known.iter().filter(|name| wanted.is_empty() || wanted.contains(name)).map(String::as_str).collect())
}

struct Fuzz<'a> {
    workspace: &'a Workspace,
    program: PathBuf,
    sanitizer: &'a str,
}

impl Fuzz<'_> {
    fn command(&self, task: &str) -> Command {
        let mut command = rustup();
        command.arg(&self.program).args(["fuzz", task, "--fuzz-dir", FOLDER, "--features", "libfuzzer"]);
        command.args(["--sanitizer", self.sanitizer, "--target-dir"]).arg(self.workspace.target_dir.join("fuzz"));
        // The release profile optimises across crates, which takes long and hides what was covered.
        command.env("CARGO_PROFILE_RELEASE_LTO", "false").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        command.current_dir(&self.workspace.root);
        command
    }

    fn build(&self, chosen: &[&str]) -> Result<()> {
        let mut command = self.command("build");
        if let [one] = chosen {
            command.arg(one);
        }
        Task::new("build the fuzz programs (some minutes at first)", command)
            .remedy("libFuzzer is C++: is there a `c++`? Else see the errors above")
            .progress()
    }

    /// Runs one target and reads what libFuzzer says about itself.
    fn target(&self, target: &str, corpus: &Path, limit: u64) -> Result<Verdict> {
        let mut command = self.command("run");
        command.arg(target).arg(corpus.join(target)).arg("--");
        let dictionary = corpus.join(format!("{target}.dict"));
        if std::fs::metadata(&dictionary).is_ok_and(|file| file.len() > 0) {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        command.arg(format!("-max_total_time={limit}")).arg(format!("-timeout={SLOWEST}"));
        command.arg(format!("-rss_limit_mb={MEMORY}")).args(["-print_final_stats=1", "-max_len=4096"]);
        println!("\n{target} for {limit} s …");
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", shown(&command)))?;
        let pipe = child.stderr.take().context("a piped output is there")?;
        let mut verdict = Verdict::default();
        let mut spoke = Instant::now();
        let mut said = Vec::new();
        for line in BufReader::new(pipe).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            verdict.read(&line);
            if spoke.elapsed() >= HEARTBEAT {
                spoke = Instant::now();
                println!("  {}: {}", seconds(started.elapsed()), line.trim());
            }
            said.push(line);
            if said.len() > 400 {
                said.drain(..200);
            }
        }
        let status = child.wait()?;
        if !status.success() {
            said.iter().for_each(|line| println!("  | {line}"));
            ensure!(verdict.finding.is_some(), "libFuzzer ended without a finding: {status}");
        }
        Ok(verdict)
    }
}

impl Verdict {
    fn read(&mut self, line: &str) {
        let after = |words: &str| line.split_once(words).map(|(_, rest)| rest.trim());
        let number = |text: &str| text.split_whitespace().next().and_then(|word| word.parse().ok());
        if let Some(count) = after("stat::number_of_executed_units:").and_then(number) {
            self.executions = count;
        } else if let Some(count) = after(" cov: ").and_then(number) {
            self.coverage = count;
        } else if let Some(path) = after("Test unit written to ") {
            self.finding = Some(path.to_owned());
        }
    }
}

fn describe(verdict: &Result<Verdict>) -> String {
    match verdict {
        Ok(Verdict { executions, coverage, finding: None }) => format!("ok  {executions} executions, {coverage} edges"),
        Ok(Verdict { finding: Some(path), .. }) => {
            format!("FOUND  {path}: mend it, and move the file to {FOLDER}/seeds/<target>/")
        }
        Err(error) => format!("FAILED  {error:#}"),
    }
}

/// cargo-fuzz on `PATH`, or our own.
fn program() -> Result<PathBuf> {
    if let Some(program) = on_path("cargo-fuzz") {
        return Ok(program);
    }
    let name = format!("cargo-fuzz-{VERSION}-{}", std::env::consts::ARCH);
    Ok(Cache::open()?.entry(&name, runs, install)?.join("bin/cargo-fuzz"))
}

fn install(place: &Path) -> Result<()> {
    let work = place.join("build");
    let mut install = cargo();
    install.current_dir(place).env_remove("RUSTFLAGS");
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_LTO", "false");
    install.env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    install.args(["install", "cargo-fuzz", "--locked", "--version", VERSION]);
    install.arg("--root").arg(place).arg("--target-dir").arg(&work);
    Task::new(format!("build cargo-fuzz {VERSION} (a minute, once)"), install)
        .remedy("it comes from crates.io: is there a network? A cargo-fuzz on PATH is used instead")
        .progress()?;
    Ok(std::fs::remove_dir_all(work)?)
}

fn runs(place: &Path) -> bool {
    let mut command = Command::new(place.join("bin/cargo-fuzz"));
    command.args(["fuzz", "--version"]).output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_understood() {
        let mut verdict = Verdict::default();
        for line in [
            "#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 30Mb",
            "#8192\tNEW    cov: 214 ft: 300 corp: 9/100b lim: 80 exec/s: 4096 rss: 40Mb L: 3/4 MS: 1 CMP-",
            "stat::number_of_executed_units: 123456",
        ] {
            verdict.read(line);
        }
        assert_eq!(verdict, Verdict { executions: 123_456, coverage: 214, finding: None });
        assert!(describe(&Ok(verdict)).starts_with("ok"));

        let mut broken = Verdict::default();
        broken.read("artifact_prefix='x/'; Test unit written to x/crash-0f");
        assert_eq!(broken.finding.as_deref(), Some("x/crash-0f"));
        assert!(describe(&Ok(broken)).contains("x/crash-0f"));
    }

    #[test]
    fn targets_are_chosen_by_name_and_a_wrong_one_is_told_what_there_is() {
        let known = ["baggage".to_owned(), "frames".to_owned()];
        assert_eq!(choose(&known, &[]).unwrap(), ["baggage", "frames"]);
        assert_eq!(choose(&known, &["frames".to_owned()]).unwrap(), ["frames"]);
        let error = choose(&known, &["frame".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("baggage, frames"), "{error}");
    }
}
