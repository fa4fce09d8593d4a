//! Round by round, each contestant in its turn: starts, is measured, ends.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

use crate::carriers::contestant::{self, Contestant, SOTTO};
use crate::command::Options;
use crate::output::{Record, say};
use crate::turn::Turn;
use crate::usage::Meter;
use crate::{lifecycle, profile, size};

/// The whole benchmark. What was measured is written also when a later round fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0 && options.seconds > 0, "at least one round of at least one second");
    let cores = keep_to_cores(options.cores)?;
    raise_open_files()?;
    let mut record = Record::default();
    record.fact("cores", cores);
    record.fact("rounds", options.rounds);
    record.fact("seconds", options.seconds);
    record.fact("rate", options.rate);
    let cgroups = harness::Mesh::new("bench").context("this machine does not allow it, as said above")?;
    let cgroup = cgroups.cgroup("all");
    let meter = Meter::enter(&cgroup.directory())?;
    let result = all_rounds(options, &meter, &mut record);
    meter.leave();
    record.write(&options.out)?;
    result
}

fn all_rounds(options: &Options, meter: &Meter, record: &mut Record) -> Result<()> {
    say("set-up: pods and their servers");
    let mut contestants = contestant::set_up(options, record)?;
    if let Some(folder) = &options.profile {
        return profiles(options, folder, record, &mut contestants);
    }
    let mut failures = Vec::new();
    for round in 1..=options.rounds {
        contestants.retain_mut(|contestant| {
            let started = Instant::now();
            let name = contestant.name();
            let outcome = turn(options, meter, record, contestant.as_mut(), round);
            let took = started.elapsed().as_secs_f64();
            say(format_args!("round {round} of {}: {name} took {took:.1} s", options.rounds));
            let Err(error) = outcome else { return true };
            failures.push(format!("round {round}, {name}: {error:#}"));
            record.note(format_args!("{name} is out since round {round}, where it failed: {error:#}"));
            false
        });
        record.write(&options.out)?;
    }
    for contestant in &mut contestants {
        let outcome = once(options, record, contestant.as_mut());
        failures.extend(outcome.err().map(|error| format!("{error:#}")));
    }
    if options.wants("size") && contestants.iter().any(|contestant| contestant.name() == SOTTO) {
        failures.extend(
            guarded(|| size::mesh(options.quick, record)).err().map(|error| format!("size of the mesh: {error:#}")),
        );
    }
    ensure!(failures.is_empty(), "not everything could be measured:\n  {}", failures.join("\n  "));
    Ok(())
}

/// Profiles instead of figures: a program that is being watched is slower.
fn profiles(
    options: &Options,
    folder: &Path,
    record: &mut Record,
    contestants: &mut [Box<dyn Contestant>],
) -> Result<()> {
    for contestant in contestants {
        let outcome = guarded(|| profile::record(contestant.as_mut(), options.seconds, folder, record));
        stop(contestant.as_mut())?;
        outcome?;
    }
    Ok(())
}

/// What is measured once, after the rounds.
fn once(options: &Options, record: &mut Record, contestant: &mut dyn Contestant) -> Result<()> {
    // Each change waits for longer than proxies give to what is open: a minute in all.
    let lifecycle = match options.wants("lifecycle") && !options.quick {
        true => guarded(|| lifecycle::measure(contestant, record)),
        false => Ok(()),
    };
    stop(contestant)?;
    let pods = match options.wants("pods") {
        true => guarded(|| size::pods(contestant, options.quick, record)),
        false => Ok(()),
    };
    stop(contestant)?;
    lifecycle.and(pods)
}

/// One turn, whatever becomes of it: the next contestant finds the cores free.
fn turn(
    options: &Options,
    meter: &Meter,
    record: &mut Record,
    contestant: &mut dyn Contestant,
    round: u32,
) -> Result<()> {
    let mut turn = Turn { options, meter, record, contestant, round };
    let outcome = guarded(|| turn.take());
    let ended = stop(turn.contestant);
    outcome.and(ended)
}

/// Ends a contestant's proxies.
fn stop(contestant: &mut dyn Contestant) -> Result<()> {
    guarded(|| {
        contestant.stop();
        Ok(())
    })
}

/// An error also where the harness panics, because something did not come about.
fn guarded(action: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|_| Err(anyhow!("see the message above")))
}

/// Keeps this process, and with it everything that it starts, to the first `count` of the cores that it may use.
fn keep_to_cores(count: usize) -> Result<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut chosen = CpuSet::new();
    let mut taken = 0;
    for core in (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).take(count.max(1)) {
        chosen.set(core)?;
        taken += 1;
    }
    sched_setaffinity(Pid::from_raw(0), &chosen).context("this process cannot be kept to some cores")?;
    Ok(taken)
}

/// As many open files as the machine allows, for this process and what it starts.
fn raise_open_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let files = fs::read_to_string("/proc/sys/fs/nr_open").context("nr_open cannot be read")?;
    ensure!(hard >= 8192, "the limit of open files is {hard}; the kernel would allow {}", files.trim());
    Ok(())
}
