//! `cargo xtask instructions`: what the pure functions of the data path cost, counted in instructions under callgrind and held
//! against a committed budget. Unlike a time, a count is the same on a busy machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::process::{Task, shown};
use crate::workspace::{Workspace, on_path};

/// The budget, from the root of the workspace.
const BUDGET: &str = "tests/instructions/budget.txt";
/// What a count may lie above its budget: compilers differ, and hash maps have other seeds each time.
const SLACK: f64 = 0.10;
/// The function whose calls are counted; callgrind knows it without the hash of its symbol.
const MEASURED: &str = "instructions::measured";
/// How long all cases may take.
const LIMIT: Duration = Duration::from_secs(300);

/// The arguments of the command.
#[derive(Args)]
pub(crate) struct Options {
    /// Write what is counted into the budget
    #[arg(long)]
    update: bool,
}

/// Instructions by case, in the order of the cases.
type Counts = Vec<(String, u64)>;

/// The command.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let Some(counts) = count(workspace)? else {
        bail!("there is no valgrind: install Debian's package of that name");
    };
    let file = workspace.root.join(BUDGET);
    if options.update {
        fs::write(&file, written(&counts)).with_context(|| format!("cannot write {}", file.display()))?;
        println!("written: {BUDGET}");
        return Ok(ExitCode::SUCCESS);
    }
    let (table, over) = compared(&counts, &read(&file)?);
    print!("{table}");
    Ok(if over.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// For continuous integration: an error when a case is over its budget, a note where nothing can be counted.
pub(super) fn check(workspace: &Workspace) -> Result<String> {
    let Some(counts) = count(workspace)? else {
        return Ok("not counted: there is no valgrind (Debian's package of that name)".into());
    };
    let (table, over) = compared(&counts, &read(&workspace.root.join(BUDGET))?);
    print!("{table}");
    ensure!(
        over.is_empty(),
        "over the budget: {}; make it cheaper, or say in the commit why it costs more and run `cargo xtask instructions --update`",
        over.join(", ")
    );
    Ok(format!("{} cases within their budgets", counts.len()))
}

/// Builds and runs the cases. `None` where there is no valgrind.
fn count(workspace: &Workspace) -> Result<Option<Counts>> {
    if on_path("valgrind").is_none() {
        return Ok(None);
    }
    let program = build(workspace)?;
    let place = workspace.target_dir.join("instructions");
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet"]);
    valgrind.arg(format!("--callgrind-out-file={}", place.join("out").display()));
    let names = place.join("names");
    valgrind.arg(format!("--zero-before={MEASURED}")).arg(format!("--dump-after={MEASURED}")).arg(program).arg(&names);
    valgrind.current_dir(&workspace.root);
    let task = Task::new("count instructions under callgrind", valgrind).limit(LIMIT);
    task.remedy("the program must run by itself: cargo bench -p sotto-tests --bench instructions").progress()?;
    let names = fs::read_to_string(&names).with_context(|| format!("the program wrote no {}", names.display()))?;
    collect(&names, &place).map(Some)
}

/// Builds the cases as tests are built, and returns the program.
fn build(workspace: &Workspace) -> Result<String> {
    let mut build = workspace.cargo(&["build", "--locked", "-p", "sotto-tests", "--bench", "instructions"]);
    build.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped()).stderr(Stdio::inherit());
    let output = build.output().context("cannot start cargo")?;
    ensure!(output.status.success(), "could not build the cases: see above\n  ran: {}", shown(&build));
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = messages.filter(|message| message["target"]["name"] == "instructions");
    let program = programs.find_map(|message| message["executable"].as_str().map(str::to_owned));
    program.context("cargo built no program `instructions`")
}

/// Brings names and callgrind's files together: one file for each call, numbered from 1.
fn collect(names: &str, place: &Path) -> Result<Counts> {
    let mut counts = Counts::new();
    for (index, line) in names.lines().enumerate() {
        let (name, times) =
            line.split_once(' ').with_context(|| format!("{line:?} is no case and its number of turns"))?;
        let file = place.join(format!("out.{}", index + 1));
        let text = fs::read_to_string(&file).with_context(|| format!("callgrind wrote no {}", file.display()))?;
        let sum = total(&text).with_context(|| format!("{} has no total", file.display()))?;
        counts.push((name.to_owned(), sum / times.parse::<u64>()?));
    }
    ensure!(!counts.is_empty(), "the program had no case");
    Ok(counts)
}

fn total(text: &str) -> Option<u64> {
    let line =
        text.lines().rev().find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")))?;
    line.split_whitespace().next()?.parse().ok()
}

fn read(file: &Path) -> Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let (name, count) =
                line.split_once(' ').with_context(|| format!("{BUDGET}: {line:?} is no name and number"))?;
            Ok((name.to_owned(), count.trim().parse().with_context(|| format!("{BUDGET}: {line:?}"))?))
        })
        .collect()
}

fn written(counts: &Counts) -> String {
    let mut text = String::from(
        "# Instructions of one turn of each case, counted under callgrind: see CONTRIBUTING.md.\n\
         # `cargo xtask instructions --update` writes this file.\n",
    );
    for (name, count) in counts {
        let _ = writeln!(text, "{name} {count}");
    }
    text
}

/// A table, and the cases that are over their budgets or have none.
fn compared(counts: &Counts, budget: &BTreeMap<String, u64>) -> (String, Vec<String>) {
    let (mut table, mut over) = (String::new(), Vec::new());
    for (name, count) in counts {
        let Some(allowed) = budget.get(name) else {
            let _ = writeln!(table, "{name:34} {count:>9}  has no budget");
            over.push(format!("{name} (has none)"));
            continue;
        };
        let change = *count as f64 / *allowed as f64 - 1.0;
        let word = if change > SLACK {
            over.push(format!("{name} ({:+.0} %)", change * 100.0));
            "OVER"
        } else if change < -SLACK {
            "cheaper: --update keeps it so"
        } else {
            ""
        };
        let row = format!("{name:34} {count:>9}  budget {allowed:>9}  {:+5.1} %  {word}", change * 100.0);
        let _ = writeln!(table, "{}", row.trim_end());
    }
    let gone = budget.keys().filter(|name| counts.iter().all(|(counted, _)| counted != *name));
    for name in gone {
        let _ = writeln!(table, "{name:34} is in the budget, and no case any more");
    }
    (table, over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_its_budget_or_has_none_fails() {
        let counts =
            vec![("same".to_owned(), 105), ("more".to_owned(), 111), ("less".to_owned(), 50), ("new".to_owned(), 1)];
        let budget = ["same", "more", "less", "old"].map(|name| (name.to_owned(), 100)).into();
        let (table, over) = compared(&counts, &budget);
        assert_eq!(over, ["more (+11 %)", "new (has none)"]);
        assert!(table.contains("cheaper") && table.contains("no case any more"), "{table}");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("budget.txt");
        fs::write(&file, written(&vec![("a".to_owned(), 7)])).unwrap();
        assert_eq!(read(&file).unwrap(), BTreeMap::from([("a".to_owned(), 7)]));
    }

    #[test]
    fn the_total_of_a_file_of_callgrind_is_found() {
        assert_eq!(total("version: 1\nsummary: 12\nfn=(1)\n1 2\n\ntotals: 34\n"), Some(34));
        assert_eq!(total("fn=(1)\n"), None);
    }
}
