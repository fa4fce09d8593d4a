//! Where the proxies spend their time: `perf record` on both while each kind of load is put on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, ensure};

use crate::carriers::contestant::Contestant;
use crate::load::{bulk, http};
use crate::output::{Record, say};

/// Samples a second: not in step with timers.
const FREQUENCY: &str = "997";

/// Profiles one contestant's proxies. Writes for each load what perf has recorded, the functions by their own time, and the stacks
/// folded as flame graphs take them.
pub(crate) fn record(contestant: &mut dyn Contestant, seconds: u32, folder: &Path, record: &mut Record) -> Result<()> {
    if Command::new("perf").arg("--version").stdout(Stdio::null()).status().is_err() {
        record.note("no profiles: there is no perf (Debian: linux-perf)");
        return Ok(());
    }
    contestant.start()?;
    let processes = contestant.processes();
    if processes.a.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let pids: Vec<String> = processes.a.iter().chain(&processes.b).map(u32::to_string).collect();
    for load in ["bulk", "requests", "connections"] {
        let place = folder.join(format!("{}-{load}", contestant.name()));
        let data = place.with_extension("data");
        let mut perf = Command::new("perf");
        perf.args(["record", "--quiet", "-e", "cpu-clock", "-g", "-F", FREQUENCY, "-p", &pids.join(","), "-o"])
            .arg(&data);
        perf.args(["--", "sleep", &seconds.to_string()]).stdout(Stdio::null()).stderr(Stdio::piped());
        let recording = thread::spawn(move || perf.output());
        let pair = contestant.pair();
        match load {
            "bulk" => drop(bulk::transfer(&pair.client, pair.server.addr(bulk::PORT), 1, seconds)?),
            "requests" => drop(http::saturate(&pair.client, pair.server.addr(http::PORT), true, seconds)?),
            _ => drop(http::saturate(&pair.client, pair.server.addr(http::PORT), false, seconds)?),
        }
        let ended = recording.join().map_err(|_| anyhow::anyhow!("the thread of perf has panicked"))??;
        ensure!(ended.status.success(), "perf record: {}", String::from_utf8_lossy(&ended.stderr));
        let top =
            perf_output(&["report", "--stdio", "--no-children", "-g", "none", "--percent-limit", "0.3", "-i"], &data)?;
        fs::write(place.with_extension("top.txt"), top)?;
        fs::write(
            place.with_extension("folded"),
            folded(&perf_output(&["script", "-F", "comm,ip,sym", "-i"], &data)?),
        )?;
        say(format_args!("profile: {}", place.with_extension("top.txt").display()));
    }
    Ok(())
}

fn perf_output(arguments: &[&str], data: &Path) -> Result<String> {
    let output = Command::new("perf").args(arguments).arg(data).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "perf {}: {}", arguments[0], String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One line a stack, outermost function first, with the number of its samples.
fn folded(script: &str) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for sample in script.split("\n\n") {
        let mut lines = sample.lines().filter(|line| !line.trim().is_empty());
        let Some(command) = lines.next() else { continue };
        // `    ffffffff8123 tcp_sendmsg`
        let frames = lines.filter_map(|line| line.trim().split_once(' ').map(|(_, name)| name.trim()));
        let mut stack: Vec<&str> = frames.collect();
        stack.push(command.trim());
        stack.reverse();
        *counts.entry(stack.join(";")).or_default() += 1;
    }
    counts.iter().fold(String::new(), |mut text, (stack, count)| {
        let _ = writeln!(text, "{stack} {count}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_folded_from_the_outside_in() {
        let script = "sotto \n\t    7f01 send\n\t    55aa relay\n\nsotto \n\t    7f02 send\n\t    55aa relay\n\nsotto \n\t    55ab poll\n\n";
        assert_eq!(folded(script), "sotto;poll 1\nsotto;relay;send 2\n");
    }
}
