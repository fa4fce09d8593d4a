//! Processes that the harness starts, and ends by the id it was given.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::Netns;
use crate::wait::eventually;

/// A child process with its output in a file. Killed when it goes out of scope.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
    child: Mutex<Child>,
    stdin: Mutex<Option<ChildStdin>>,
}

impl Process {
    /// Starts `command` in `netns`; standard output and error are appended to the file `log`.
    pub(crate) fn start(name: &str, netns: &Netns, command: &mut Command, log: &Path) -> Self {
        Self::launch(name, command, log, |command| netns.spawn(command))
    }

    /// As [`Self::start`], in the namespace of the test itself.
    pub(crate) fn start_here(name: &str, command: &mut Command, log: &Path) -> Self {
        Self::launch(name, command, log, Command::spawn)
    }

    fn launch(
        name: &str,
        command: &mut Command,
        log: &Path,
        spawn: impl FnOnce(&mut Command) -> std::io::Result<Child>,
    ) -> Self {
        let output = File::options().create(true).append(true).open(log);
        let output = output.unwrap_or_else(|error| panic!("cannot open {}: {error}", log.display()));
        let copy = output.try_clone().expect("a file can be opened twice");
        command.stdin(Stdio::piped()).stdout(copy).stderr(output);
        let mut child = spawn(command).unwrap_or_else(|error| panic!("cannot start {name} {command:?}: {error}"));
        let stdin = child.stdin.take();
        Self { name: name.to_owned(), pid: child.id(), log: log.to_owned(), child: child.into(), stdin: stdin.into() }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Everything it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Writes a line to its standard input.
    ///
    /// # Panics
    /// When the process no longer reads.
    pub fn send_line(&self, line: &str) {
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = stdin.as_mut().map(|stdin| writeln!(stdin, "{line}"));
        assert!(
            matches!(sent, Some(Ok(()))),
            "{} (pid {}) does not read: {sent:?}\n{}",
            self.name,
            self.pid,
            self.log()
        );
    }

    /// Whether it has not ended yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// When it has not ended within `deadline`.
    pub fn terminate(&self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let what = format!("{} (pid {}) ends after SIGTERM", self.name, self.pid);
        eventually(deadline, &what, || self.child().try_wait().ok().flatten())
    }

    /// Kills it at once, as a crash would, and waits until it is gone.
    pub fn kill(&self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Sends a signal, unless the process has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        // Looking first keeps a reused id safe: a child that was not waited for keeps its id.
        if self.is_running() {
            let _ = kill(Pid::from_raw(self.pid.cast_signed()), signal);
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
