//! One run of a load generator, bounded in time.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use harness::Site;

/// How much longer than its load a generator may take, for connecting and counting.
const GRACE: Duration = Duration::from_secs(15);

/// Runs a generator beside a pod's application and returns what it printed.
pub(super) fn run(site: &Site, mut command: Command, load: Duration) -> Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = site.netns().spawn(&mut command).with_context(|| format!("cannot start {name}"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, err) = (thread::spawn(|| read(out)), thread::spawn(|| read(err)));
    let end = Instant::now() + load + GRACE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{name} had not ended after {:?}", load + GRACE);
        }
        thread::sleep(Duration::from_millis(5));
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    if !status.success() {
        bail!("{name} ended with {status}: {} {}", err.trim(), tail(&out));
    }
    Ok(out)
}

fn read(pipe: Option<impl std::io::Read>) -> String {
    let mut bytes = Vec::new();
    let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The end of a long output.
fn tail(text: &str) -> String {
    text.chars().skip(text.chars().count().saturating_sub(300)).collect()
}
