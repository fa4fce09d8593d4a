//! What joining the mesh, exchanging its proxies and leaving it cost: time, open connections, restarts of pods.

use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::Pod;

use crate::carriers::contestant::{Change, Contestant};
use crate::load::{http, idle};
use crate::output::{Record, say};

/// Connections that are open when something changes, and stay open as far as they are let.
const POOL: usize = 50;

/// How long after a change its connections are looked at: longer than the proxies give to what is open (5 s all of them).
const SETTLED: Duration = Duration::from_secs(6);

/// The pause between two new connections that are made while something changes.
const NEWCOMER: Duration = Duration::from_millis(5);

/// How long it may take until new connections are carried.
const PATIENCE: Duration = Duration::from_secs(30);

/// One change after the other.
pub(crate) fn measure(contestant: &mut dyn Contestant, record: &mut Record) -> Result<()> {
    if !contestant.before_joining()? {
        return Ok(());
    }
    for (change, name) in [(Change::Join, "join"), (Change::Upgrade, "upgrade"), (Change::Leave, "leave")] {
        let outcome = one(contestant, change).with_context(|| format!("{} at {name}", contestant.name()))?;
        say(format_args!(
            "{}: {name} took {:.0} ms, {} of {POOL} connections broke",
            contestant.name(),
            outcome.millis,
            outcome.broken
        ));
        let mut sample =
            |figure: &str, value: f64| record.sample(contestant.name(), 0, &format!("{name}_{figure}"), value);
        sample("ms", outcome.millis);
        sample("broken", outcome.broken as f64);
        sample("refused", outcome.refused as f64);
        sample("longest_wait_ms", outcome.longest.as_secs_f64() * 1e3);
        sample("pods_restarted", outcome.restarted.into());
    }
    Ok(())
}

struct Outcome {
    /// Until the change is complete and a new connection was answered.
    millis: f64,
    broken: usize,
    restarted: u32,
    /// New connections, made one after the other all the time, that failed.
    refused: usize,
    /// The longest that one of them took.
    longest: Duration,
}

fn one(contestant: &mut dyn Contestant, change: Change) -> Result<Outcome> {
    let address = contestant.pair().server.addr(http::PORT);
    let pool = idle::open(&contestant.pair().client, address, POOL)?;
    let begin = Instant::now();
    let (stop, client) = (AtomicBool::new(false), contestant.pair().client.clone());
    let (changed, (refused, longest)) = thread::scope(|scope| {
        let newcomers = scope.spawn(|| newcomers(&client, address, &stop));
        // The harness may panic: the thread is stopped all the same.
        let changed = catch_unwind(AssertUnwindSafe(|| {
            let restarted = contestant.change(change)?;
            first(contestant)?;
            let millis = begin.elapsed().as_secs_f64() * 1e3;
            // Not a wait for something: what is open gets the chance to break.
            thread::sleep((begin + SETTLED).saturating_duration_since(Instant::now()));
            anyhow::Ok((restarted, millis))
        }));
        stop.store(true, Ordering::Relaxed);
        (changed, newcomers.join().unwrap_or_default())
    });
    let (restarted, millis) = changed.unwrap_or_else(|panic| resume_unwind(panic))?;
    let broken = pool.into_iter().filter(is_broken).count();
    Ok(Outcome { millis, broken, restarted, refused, longest })
}

/// Makes connections until told to stop; how many failed, and the longest that one took.
fn newcomers(client: &Pod, address: SocketAddr, stop: &AtomicBool) -> (usize, Duration) {
    let (mut refused, mut longest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let failed = idle::once(client, address).is_err();
        refused += usize::from(failed);
        longest = longest.max(begin.elapsed());
        thread::sleep(NEWCOMER);
    }
    (refused, longest)
}

fn is_broken(stream: &TcpStream) -> bool {
    stream.try_clone().map_err(Into::into).and_then(|mut stream| idle::request(&mut stream)).is_err()
}

/// A new connection, as soon as there can be one.
fn first(contestant: &dyn Contestant) -> Result<()> {
    let pair = contestant.pair();
    let end = Instant::now() + PATIENCE;
    loop {
        match idle::once(&pair.client, pair.server.addr(http::PORT)) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => {}
        }
    }
}
