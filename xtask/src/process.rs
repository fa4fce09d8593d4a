//! External commands: a line when one starts, a sign of life while it works, a readable end when it fails.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Silence after which a long command's latest line is shown.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Lines of output that a failure quotes.
const QUOTED_LINES: usize = 25;
/// How often a finished child is noticed although something it started holds its pipes open.
const POLL: Duration = Duration::from_millis(100);

/// One external command and what to tell the reader about it.
pub(crate) struct Task {
    /// What is run.
    pub(crate) command: Command,
    what: String,
    remedy: Option<String>,
    limit: Option<Duration>,
}

impl Task {
    /// `what` completes "could not …".
    pub(crate) fn new(what: impl Into<String>, command: Command) -> Self {
        Self { command, what: what.into(), remedy: None, limit: None }
    }

    /// What the reader can do when the command fails.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The command is killed, and has failed, after this long.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Runs it on our own terminal.
    pub(crate) fn stream(mut self) -> Result<()> {
        let status = self.command.status().with_context(|| self.cannot_start())?;
        if status.success() { Ok(()) } else { bail!("{}", self.failure(&status.to_string(), &[])) }
    }

    /// Runs it quietly and returns what it wrote to standard output.
    pub(crate) fn output(mut self) -> Result<String> {
        let output = self.command.stdin(Stdio::null()).output().with_context(|| self.cannot_start())?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            let quoted: Vec<_> = errors.lines().map(str::to_owned).collect();
            let from = quoted.len().saturating_sub(QUOTED_LINES);
            bail!("{}", self.failure(&output.status.to_string(), &quoted[from..]));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it with its output held back: says that it starts, shows its latest line now and then, says how long it took.
    pub(crate) fn progress(mut self) -> Result<()> {
        println!("{} …", self.what);
        let started = Instant::now();
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().with_context(|| self.cannot_start())?;
        let mut tail = VecDeque::new();
        let ended = self.follow(&mut child, started, &mut tail)?;
        let took = seconds(started.elapsed());
        match ended {
            Some(status) if status.success() => {
                println!("{}: done in {took}", self.what);
                Ok(())
            }
            Some(status) => bail!("{}", self.failure(&status.to_string(), tail.make_contiguous())),
            None => bail!("{}", self.failure(&format!("no end after {took}"), tail.make_contiguous())),
        }
    }

    /// Waits for the end, or for the limit (`None`, the child is dead by then).
    fn follow(&self, child: &mut Child, started: Instant, tail: &mut VecDeque<String>) -> Result<Option<ExitStatus>> {
        let lines = lines_of(child);
        let mut spoke = Instant::now();
        let mut piped = true;
        loop {
            let received = if piped { lines.recv_timeout(POLL) } else { Err(RecvTimeoutError::Timeout) };
            match received {
                Ok(line) => {
                    tail.push_back(line);
                    if tail.len() > QUOTED_LINES {
                        tail.pop_front();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(status) = child.try_wait()? {
                        return Ok(Some(status));
                    }
                    if !piped {
                        thread::sleep(POLL);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => piped = false,
            }
            if spoke.elapsed() >= HEARTBEAT {
                spoke = Instant::now();
                let latest = tail.back().map_or("", String::as_str);
                println!("  {}: {}", seconds(started.elapsed()), latest.trim());
            }
            if self.limit.is_some_and(|limit| started.elapsed() > limit) {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
        }
    }

    fn cannot_start(&self) -> String {
        let program = self.command.get_program().to_string_lossy().into_owned();
        format!("could not {}: `{program}` does not start{}", self.what, self.hint())
    }

    fn failure(&self, ended: &str, lines: &[String]) -> String {
        let mut text = format!("could not {}\n  ran: {}\n  ended: {ended}", self.what, shown(&self.command));
        for line in lines {
            text.push_str("\n  | ");
            text.push_str(line);
        }
        text.push_str(&self.hint());
        text
    }

    fn hint(&self) -> String {
        self.remedy.as_ref().map_or_else(String::new, |remedy| format!("\n  to do: {remedy}"))
    }
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let quoted = |text: &std::ffi::OsStr| {
        let text = text.to_string_lossy();
        if text.contains([' ', '"', '\'']) { format!("'{text}'") } else { text.into_owned() }
    };
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), quoted(value?))))
        .collect();
    words.push(quoted(command.get_program()));
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

/// A duration for people.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration.as_secs() < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

/// The child's output and errors, line by line in the order in which they come.
fn lines_of(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let out = child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
    let err = child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
    for pipe in out.into_iter().chain(err) {
        let sender = sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
    }
    receiver
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
    fn a_failure_says_what_ran_what_it_said_and_what_to_do() {
        let task = Task::new("fetch the moon", shell("echo too far >&2; exit 3")).remedy("build a ladder");
        let text = task.progress().unwrap_err().to_string();
        for part in ["could not fetch the moon", "sh -c", "exit status: 3", "| too far", "to do: build a ladder"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }

    #[test]
    fn a_long_output_is_quoted_from_its_end() {
        let text = Task::new("count", shell("seq 1000; exit 1")).progress().unwrap_err().to_string();
        assert!(text.contains("| 1000") && !text.contains("| 900"), "{text}");
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let text = format!("{:#}", Task::new("go", Command::new("no-such-program-of-sotto")).output().unwrap_err());
        assert!(text.contains("`no-such-program-of-sotto` does not start"), "{text}");
    }

    #[test]
    fn a_limit_ends_what_does_not_end() {
        let started = Instant::now();
        let task = Task::new("wait", shell("exec sleep 600")).limit(Duration::from_millis(200));
        assert!(task.progress().unwrap_err().to_string().contains("no end after"));
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn output_is_returned() {
        assert_eq!(Task::new("speak", shell("echo hello; echo noise >&2")).output().unwrap(), "hello\n");
    }

    #[test]
    fn durations_are_readable() {
        assert_eq!(seconds(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
    }
}
