//! Mixed traffic between two nodes for as long as asked, while pods join and leave and agents crash, end and start.
//!
//! Everything is chosen from a seed that is printed. The exit code says whether anything failed that had no reason to, whether
//! a secret crossed in clear, and whether an agent has grown.

mod chaos;
mod growth;
mod ledger;
mod outages;
mod report;
mod stage;
mod traffic;
mod watch;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use fastrand::Rng;

use growth::Growth;
use ledger::Ledger;
use report::{Report, say};
use stage::Stage;
use watch::Watch;

/// The part of the time in which agents are disturbed. The rest shows whether they grow.
const STORM: f64 = 0.6;

/// Threads that make one connection after another, threads that keep connections for long, threads that move much.
const WORKERS: [(traffic::Role, usize); 3] =
    [(traffic::Role::Short, 4), (traffic::Role::Long, 3), (traffic::Role::Bulk, 1)];

/// Mixed traffic while everything else changes; a report at the end.
#[derive(Parser)]
struct Options {
    /// How long traffic flows
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,

    /// What all choices are made from
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    harness::clean_up_on_signals();
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    // The harness panics when something does not come about; unwinding removes what was made.
    match catch_unwind(|| soak(options.minutes, seed)) {
        Ok(Some(report)) if report.passed() => ExitCode::SUCCESS,
        Ok(None) => {
            say("this machine does not allow it, as said above");
            ExitCode::FAILURE
        }
        Ok(Some(_)) | Err(_) => ExitCode::FAILURE,
    }
}

fn soak(minutes: f64, seed: u64) -> Option<Report> {
    let duration = Duration::from_secs_f64((minutes * 60.0).clamp(20.0, 7.0 * 86400.0));
    say(format_args!("soak: {duration:?}, seed {seed} (again: --seed {seed})"));
    let stage = Stage::set_up()?;
    let watch = Watch::start(&stage.b.node);
    traffic::show_that_the_watch_sees(&stage, &watch);
    stage.enrol();

    let (ledger, growth) = (Ledger::new(), Mutex::new(Growth::new(&stage)));
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    let mut seeds = Rng::with_seed(seed);
    thread::scope(|scope| {
        for (role, count) in WORKERS {
            for _ in 0..count {
                let rng = Rng::with_seed(seeds.u64(..));
                let (stage, ledger, stop) = (&stage, &ledger, &stop);
                scope.spawn(move || traffic::run(stage, role, rng, ledger, stop));
            }
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                growth::lock(&growth).sample(&stage);
                thread::sleep(Duration::from_secs(1));
            }
        });
        chaos::storm(&stage, &ledger, seeds.fork(), start + duration.mul_f64(STORM));
        growth::lock(&growth).steady();
        chaos::calm(&stage, &ledger, seeds.fork(), start + duration);
        stop.store(true, Ordering::Relaxed);
    });
    let mut growth = growth.into_inner().expect("no thread has panicked");
    growth.finish(&stage);
    let report = Report::new(&ledger, growth, watch.stop(), &stage, seed, start.elapsed());
    report.print();
    Some(report)
}
