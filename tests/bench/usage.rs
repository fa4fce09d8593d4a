//! Processor time and memory of the processes that carry traffic.

use std::fs;
use std::ops::Sub;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// The processes that carry traffic: beside the client, and beside the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Processes {
    pub(crate) a: Vec<u32>,
    pub(crate) b: Vec<u32>,
}

/// Processor time up to a moment, or between two.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// Of the processes beside the client.
    pub(crate) a: Duration,
    /// Of those beside the server.
    pub(crate) b: Duration,
    /// Of everything that this benchmark has started, load included.
    pub(crate) all: Duration,
    /// Of the whole machine.
    pub(crate) machine: Duration,
}

/// Tells the processor time of everything in one cgroup.
#[derive(Debug)]
pub(crate) struct Meter {
    statistics: PathBuf,
}

impl Processes {
    /// Resident memory in bytes: what they do not share, and the program's file once.
    pub(crate) fn memory(pids: &[u32]) -> Result<u64> {
        let mut sum = 0;
        let mut shared = 0;
        for pid in pids {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))
                .with_context(|| format!("process {pid} has ended: its memory cannot be told"))?;
            sum += kib(&status, "RssAnon:") + kib(&status, "RssShmem:");
            shared = shared.max(kib(&status, "RssFile:"));
        }
        Ok((sum + shared) * 1024)
    }
}

fn kib(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

impl Meter {
    /// Puts this process and what it will start into `cgroup`.
    pub(crate) fn enter(cgroup: &Path) -> Result<Self> {
        fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string())
            .with_context(|| format!("cannot enter {}", cgroup.display()))?;
        Ok(Self { statistics: cgroup.join("cpu.stat") })
    }

    /// Leaves the cgroup, which can then be removed.
    pub(crate) fn leave(&self) {
        let root = self.statistics.parent().and_then(Path::parent);
        let _ = root.map(|root| fs::write(root.join("cgroup.procs"), std::process::id().to_string()));
    }

    /// Processor time until now.
    pub(crate) fn read(&self, processes: &Processes) -> Result<Cpu> {
        let text = fs::read_to_string(&self.statistics).context("the cgroup's processor time cannot be read")?;
        let used = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok());
        let sum = |pids: &[u32]| pids.iter().map(|pid| of_process(*pid)).sum::<Result<Duration>>();
        Ok(Cpu {
            a: sum(&processes.a)?,
            b: sum(&processes.b)?,
            all: Duration::from_micros(used.context("cpu.stat has no usage_usec")?),
            machine: of_machine()?,
        })
    }
}

/// User and system time of all threads, also of those that have ended.
fn of_process(pid: u32) -> Result<Duration> {
    let clock: ClockId = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))
        .with_context(|| format!("process {pid} has ended: its processor time cannot be told"))?;
    Ok(clock_gettime(clock)?.into())
}

/// Time in which a core was not idle, in ticks of 10 ms.
fn of_machine() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat cannot be read")?;
    let numbers: Vec<u64> =
        text.lines().next().unwrap_or_default().split_whitespace().skip(1).flat_map(str::parse).collect();
    // user nice system idle iowait irq softirq steal; guest time is in user time already.
    let busy: u64 = numbers.iter().take(8).sum::<u64>() - numbers.iter().skip(3).take(2).sum::<u64>();
    Ok(Duration::from_millis(busy * 10))
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            a: self.a.saturating_sub(earlier.a),
            b: self.b.saturating_sub(earlier.b),
            all: self.all.saturating_sub(earlier.all),
            machine: self.machine.saturating_sub(earlier.machine),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_memory_of_this_process_are_told() {
        let before = of_process(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while of_process(std::process::id()).unwrap() - before < Duration::from_millis(5) {
            sum = sum.wrapping_add(1);
        }
        assert!(sum > 0);
        assert!(Processes::memory(&[std::process::id()]).unwrap() > 100_000);
        assert!(of_machine().unwrap() > Duration::ZERO);
    }

    #[test]
    fn a_field_of_the_status_is_read() {
        assert_eq!(kib("Name:\tx\nRssAnon:\t    1234 kB\n", "RssAnon:"), 1234);
        assert_eq!(kib("", "RssAnon:"), 0);
    }
}
