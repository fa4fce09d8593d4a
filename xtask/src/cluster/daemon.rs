//! Processes that outlive the command that starts them, and are ended by the id that was written down.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::state::State;

/// How long the kernel may take to end a process.
const GRACE: Duration = Duration::from_secs(10);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(100);

/// A process that was started for a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Daemon {
    /// What it is called in the state folder.
    pub(super) name: String,
    /// Its process id.
    pub(super) pid: i32,
    /// When it started, in clock ticks since boot: with the boot's id, no other process is taken for it.
    started: u64,
    boot: String,
}

impl Daemon {
    /// Starts `command` with its output in the log of that name, unless it runs already.
    pub(super) fn start(state: &State, name: &str, mut command: Command) -> Result<Self> {
        if let Some(daemon) = Self::recorded(state, name).filter(Self::runs) {
            return Ok(daemon);
        }
        let log = state.log(name);
        let output = File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // Away from the terminal's own group: an interrupt there is not meant for it.
        command.process_group(0).current_dir(state.dir());
        let words: Vec<_> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let child = command.spawn().with_context(|| format!("cannot start {name}: {}", words[0]))?;
        let pid = i32::try_from(child.id())?;
        let (_, started) = stat(pid).with_context(|| format!("{name} ended at once: see {}", log.display()))?;
        let daemon = Self { name: name.to_owned(), pid, started, boot: boot() };
        let record = json!({"pid": pid, "started": started, "boot": daemon.boot, "argv": words, "log": log});
        let place = state.record(name);
        fs::write(&place, record.to_string()).with_context(|| format!("cannot write {}", place.display()))?;
        Ok(daemon)
    }

    /// What was written down about the process of that name.
    pub(super) fn recorded(state: &State, name: &str) -> Option<Self> {
        parse(name, &fs::read_to_string(state.record(name)).ok()?)
    }

    /// All that were written down.
    pub(super) fn all(state: &State) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(state.records()) else { return Vec::new() };
        let mut names: Vec<_> = entries
            .flatten()
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
            .collect();
        names.sort();
        names.iter().filter_map(|name| Self::recorded(state, name)).collect()
    }

    /// Whether it has not ended.
    pub(super) fn runs(&self) -> bool {
        // A zombie (Z) has ended; it is there for as long as a parent has not asked for it.
        self.boot == boot() && stat(self.pid).is_some_and(|(mode, started)| started == self.started && mode != 'Z')
    }

    /// An error with the end of its log, if it has ended.
    pub(super) fn check(&self, state: &State) -> Result<()> {
        if self.runs() {
            return Ok(());
        }
        bail!("{} has ended\n{}", self.name, tail(&state.log(&self.name)))
    }

    /// Its only child, for a process that keeps one.
    pub(super) fn child(&self) -> Option<i32> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// Ends it at once and forgets it: what it might still write is removed with the cluster.
    pub(super) fn end(&self, state: &State) -> Result<()> {
        if self.runs() {
            match kill(Pid::from_raw(self.pid), Signal::SIGKILL) {
                Ok(()) | Err(nix::Error::ESRCH) => {}
                Err(error) => bail!("cannot end {} (pid {}): {error}", self.name, self.pid),
            }
        }
        await_condition(GRACE, || {
            ensure!(!self.runs(), "{} (pid {}) does not end", self.name, self.pid);
            Ok(())
        })?;
        match fs::remove_file(state.record(&self.name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Looks at `condition` until it holds; its last error when `patience` is over.
pub(super) fn await_condition(patience: Duration, mut condition: impl FnMut() -> Result<()>) -> Result<()> {
    let end = Instant::now() + patience;
    loop {
        match condition() {
            Err(error) if Instant::now() >= end => {
                return Err(error).with_context(|| format!("gave up after {} s", patience.as_secs()));
            }
            Err(_) => thread::sleep(POLL),
            Ok(()) => return Ok(()),
        }
    }
}

fn parse(name: &str, text: &str) -> Option<Daemon> {
    let record: Value = serde_json::from_str(text).ok()?;
    Some(Daemon {
        name: name.to_owned(),
        // Zero and less are whole groups of processes for kill(2).
        pid: record["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1)?,
        started: record["started"].as_u64()?,
        boot: record["boot"].as_str()?.to_owned(),
    })
}

/// State and start of a process (proc_pid_stat(5), fields 3 and 22).
fn stat(pid: i32) -> Option<(char, u64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<(char, u64)> {
    // The program's name before it is in brackets and may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.nth(18)?.parse().ok()?))
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The last lines of a log, for an error.
pub(super) fn tail(log: &PathBuf) -> String {
    const LINES: usize = 12;
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES);
    format!("  {}:\n  | {}", Path::new(log).display(), lines[from..].join("\n  | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    }

    #[test]
    fn a_process_is_started_once_and_ended_by_its_record() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let daemon = Daemon::start(&state, "sleeper", sleeper()).unwrap();
        assert_eq!(Daemon::start(&state, "sleeper", sleeper()).unwrap(), daemon);
        assert_eq!(Daemon::all(&state), std::slice::from_ref(&daemon));
        daemon.end(&state).unwrap();
        assert!(!daemon.runs() && Daemon::all(&state).is_empty());
    }

    #[test]
    fn another_process_with_the_same_id_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let daemon = Daemon::start(&state, "sleeper", sleeper()).unwrap();
        let reused = Daemon { started: daemon.started + 1, ..daemon.clone() };
        reused.end(&state).unwrap();
        assert!(daemon.runs() && !reused.runs());
        daemon.end(&state).unwrap();
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let fields: Vec<_> = (4..=22).map(|field| field.to_string()).collect();
        assert_eq!(parse_stat(&format!("7 (a) b) S {}\n", fields.join(" "))), Some(('S', 22)));
        assert_eq!(parse_stat("7 (a) S 1"), None);
    }

    #[test]
    fn a_record_that_names_a_group_of_processes_is_none() {
        assert_eq!(parse("x", r#"{"pid": -1, "started": 1, "boot": "b"}"#), None);
        assert_eq!(parse("x", "oops"), None);
    }
}
