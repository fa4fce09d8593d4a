//! Looks for two texts in everything that crosses a node's uplink, for as long as it runs, without keeping it.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use harness::{DEADLINE, Marker, Node, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running watch.
#[derive(Debug)]
pub(crate) struct Watch {
    tcpdump: Child,
    reader: Option<JoinHandle<()>>,
    errors: Option<JoinHandle<()>>,
    said: Arc<Mutex<String>>,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    texts: Mutex<Vec<(String, u64)>>,
    bytes: AtomicU64,
}

/// What a watch has seen.
#[derive(Debug)]
pub(crate) struct Findings {
    texts: Vec<(String, u64)>,
    /// Everything that crossed, with its headers.
    pub(crate) bytes: u64,
    /// tcpdump's own words about frames that it missed.
    pub(crate) missed: String,
}

impl Watch {
    /// Starts tcpdump on the node's uplink and waits until it listens.
    pub(crate) fn start(node: &Node) -> Self {
        let mut command = Command::new("tcpdump");
        command.args(["-i", "eth0", "-n", "-U", "-s", "70000", "-B", "65536", "-Z", "root", "-w", "-"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tcpdump = node.netns().spawn(&mut command).expect("tcpdump can be started");
        let (stdout, mut stderr) = (tcpdump.stdout.take(), tcpdump.stderr.take());
        let (seen, said) = (Arc::new(Seen::default()), Arc::new(Mutex::new(String::new())));
        let (saw, says) = (Arc::clone(&seen), Arc::clone(&said));
        let reader = thread::spawn(move || stdout.into_iter().for_each(|output| saw.read(output)));
        let errors = thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Some(count @ 1..) = stderr.as_mut().and_then(|stderr| stderr.read(&mut buffer).ok()) {
                lock(&says).push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        eventually(DEADLINE, "tcpdump listens", || lock(&said).contains("listening on").then_some(()));
        Self { tcpdump, reader: Some(reader), errors: Some(errors), said, seen }
    }

    /// Looks for a text from now on.
    pub(crate) fn look_for(&self, marker: &Marker) {
        lock(&self.seen.texts).push((marker.as_str().to_owned(), 0));
    }

    /// How often a text has been seen.
    pub(crate) fn count(&self, marker: &Marker) -> u64 {
        count(&lock(&self.seen.texts), marker)
    }

    /// Ends the watch.
    pub(crate) fn stop(mut self) -> Findings {
        let _ = kill(Pid::from_raw(self.tcpdump.id().cast_signed()), Signal::SIGINT);
        for thread in [self.reader.take(), self.errors.take()].into_iter().flatten() {
            let _ = thread.join();
        }
        let missed = lock(&self.said).lines().find(|line| line.contains("dropped by kernel")).map(str::to_owned);
        let texts = lock(&self.seen.texts).clone();
        Findings { texts, bytes: self.seen.bytes.load(Ordering::Relaxed), missed: missed.unwrap_or_default() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}

impl Findings {
    /// How often a text was seen.
    pub(crate) fn count(&self, marker: &Marker) -> u64 {
        count(&self.texts, marker)
    }
}

impl Seen {
    fn read(&self, mut output: impl Read) {
        // Keeps what may be the beginning of a text.
        let (mut buffer, mut kept) = (vec![0; 1 << 20], 0);
        while let Ok(count @ 1..) = output.read(&mut buffer[kept..]) {
            self.bytes.fetch_add(count as u64, Ordering::Relaxed);
            let filled = kept + count;
            let mut longest = 0;
            for (text, number) in lock(&self.texts).iter_mut() {
                longest = longest.max(text.len());
                // What is kept is shorter than a text, so nothing is counted twice.
                *number += occurrences(&buffer[..filled], text.as_bytes(), kept);
            }
            let keep = longest.saturating_sub(1).min(filled);
            buffer.copy_within(filled - keep..filled, 0);
            kept = keep;
        }
    }
}

/// How often `text` stands in `bytes`, ending after the first `old` ones.
fn occurrences(bytes: &[u8], text: &[u8], old: usize) -> u64 {
    let windows = bytes.windows(text.len()).enumerate();
    windows.filter(|(at, window)| window[0] == text[0] && at + text.len() > old && *window == text).count() as u64
}

fn count(texts: &[(String, u64)], marker: &Marker) -> u64 {
    texts.iter().filter(|(text, _)| text == marker.as_str()).map(|(_, count)| count).sum()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.len().min(7);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn a_text_is_found_once_wherever_it_is_cut() {
        let (one, other) = (Marker::new(), Marker::new());
        let seen = Seen {
            texts: Mutex::new(vec![(one.as_str().into(), 0), (other.as_str().into(), 0)]),
            bytes: AtomicU64::new(0),
        };
        seen.read(Dribble(format!("...{one}{one}......{one}").as_bytes()));
        assert_eq!(count(&lock(&seen.texts), &one), 3);
        assert_eq!(count(&lock(&seen.texts), &other), 0);
    }
}
