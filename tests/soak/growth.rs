//! What the agents take of the machine, over time.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use harness::Agent;

use crate::outages::Which;
use crate::stage::Stage;

/// What may be added to resident memory without being growth: allocators keep some of what they were given.
const RSS_SLACK_KIB: u64 = 12 * 1024;

/// Tunnels that stay open for the next connection, and pods' certificates being renewed.
const FD_SLACK: u64 = 24;

/// How long connections may take to end once nobody talks.
const QUIET: Duration = Duration::from_secs(20);

/// One look at a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Resident memory in KiB.
    pub(crate) rss: u64,
    /// Open file descriptors.
    pub(crate) fds: u64,
    /// Threads.
    pub(crate) threads: u64,
}

/// One agent's figures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Enrolled, before any traffic.
    pub(crate) start: Usage,
    /// The largest of each over the whole run.
    pub(crate) max: Usage,
    /// At the start of the time in which agents are left alone, after its first few seconds.
    pub(crate) steady: Option<Usage>,
    /// When nobody talks any more.
    pub(crate) end: Usage,
    /// Connections that the agent still believes to be open then.
    pub(crate) open: f64,
    /// Looks that were taken since `steady`.
    looks: u32,
}

/// All agents' figures.
#[derive(Debug)]
pub(crate) struct Growth {
    agents: [(Which, Figures); 2],
    steady_since: Option<Instant>,
}

impl Growth {
    pub(crate) fn new(stage: &Stage) -> Self {
        let agents = [Which::A, Which::B].map(|which| {
            let start = Usage::of(stage.side(which).agent().pid()).unwrap_or_default();
            (which, Figures { start, max: start, ..Figures::default() })
        });
        Self { agents, steady_since: None }
    }

    /// Takes a look. Agents that are away are left out.
    pub(crate) fn sample(&mut self, stage: &Stage) {
        let steady = self.steady_since.is_some_and(|since| since.elapsed() > Duration::from_secs(5));
        for (which, figures) in &mut self.agents {
            let Some(now) = Usage::of(stage.side(*which).agent().pid()) else { continue };
            figures.max = figures.max.max(now);
            if steady {
                figures.looks += 1;
                // The largest of the first looks: traffic goes up and down.
                if figures.looks <= 10 {
                    figures.steady = Some(figures.steady.unwrap_or_default().max(now));
                }
            }
        }
    }

    /// Agents are left alone from now on.
    pub(crate) fn steady(&mut self) {
        self.steady_since = Some(Instant::now());
    }

    /// Waits until the agents know of no connection any more, and takes the last look.
    pub(crate) fn finish(&mut self, stage: &Stage) {
        let end = Instant::now() + QUIET;
        for (which, figures) in &mut self.agents {
            let agent = stage.side(*which).agent().clone();
            loop {
                figures.open = open_connections(&agent);
                if figures.open == 0.0 || Instant::now() > end {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            figures.end = Usage::of(agent.pid()).unwrap_or_default();
            figures.max = figures.max.max(figures.end);
        }
    }

    /// The figures of each agent.
    pub(crate) fn figures(&self) -> &[(Which, Figures)] {
        &self.agents
    }

    /// What has grown, in words.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.agents.iter().flat_map(|(which, figures)| figures.problems(*which)).collect()
    }
}

impl Figures {
    fn problems(&self, which: Which) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(steady) = self.steady
            && self.end.rss > steady.rss + steady.rss / 4 + RSS_SLACK_KIB
        {
            problems.push(format!("agent {which:?} grew from {} to {} KiB", steady.rss, self.end.rss));
        }
        if self.end.fds > self.start.fds + FD_SLACK {
            problems.push(format!("agent {which:?} had {} descriptors and has {}", self.start.fds, self.end.fds));
        }
        if self.end.threads > self.start.threads + 2 {
            problems.push(format!("agent {which:?} had {} threads and has {}", self.start.threads, self.end.threads));
        }
        if self.open != 0.0 {
            problems.push(format!("agent {which:?} believes that {} connections are open; all have ended", self.open));
        }
        problems
    }
}

impl Usage {
    fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
        Some(Self { rss: field("VmRSS:")?, fds, threads: field("Threads:")? })
    }

    fn max(self, other: Self) -> Self {
        Self { rss: self.rss.max(other.rss), fds: self.fds.max(other.fds), threads: self.threads.max(other.threads) }
    }
}

/// What is opened and not closed, as the agent counts it.
fn open_connections(agent: &Agent) -> f64 {
    let metrics = agent.metrics();
    metrics.sum("istio_tcp_connections_opened_total", &[]) - metrics.sum("istio_tcp_connections_closed_total", &[])
}

pub(crate) fn lock(growth: &Mutex<Growth>) -> MutexGuard<'_, Growth> {
    growth.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_from_use() {
        let usage = |rss, fds| Usage { rss, fds, threads: 5 };
        let figures =
            |end| Figures { start: usage(20_000, 30), steady: Some(usage(40_000, 60)), end, ..Figures::default() };
        assert_eq!(figures(usage(45_000, 40)).problems(Which::A), [""; 0]);
        assert_eq!(figures(usage(80_000, 90)).problems(Which::A).len(), 2);
        let open = Figures { open: 1.0, ..figures(usage(40_000, 30)) };
        assert_eq!(open.problems(Which::B).len(), 1);
    }
}
