//! What joining the mesh, exchanging its proxies and leaving it cost: time, open connections, restarts of pods.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::carriers::{Change, Contestant};
use crate::load::{http, idle};
use crate::output::{Record, say};

/// Connections that are open when something changes, and stay open as far as they are let.
const POOL: usize = 50;

/// How long after a change its connections are looked at: longer than the proxies give to what is open (5 s all of them).
const SETTLED: Duration = Duration::from_secs(6);

/// How long it may take until new connections are carried.
const PATIENCE: Duration = Duration::from_secs(30);

/// One change after the other.
pub(crate) fn measure(contestant: &mut dyn Contestant, record: &mut Record) -> Result<()> {
    if !contestant.before_joining()? {
        return Ok(());
    }
    for (change, name) in [(Change::Join, "join"), (Change::Upgrade, "upgrade"), (Change::Leave, "leave")] {
        let outcome = one(contestant, change).with_context(|| format!("{} at {name}", contestant.name()))?;
        say(format_args!("{}: {name} took {:.0} ms, {} of {POOL} connections broke", contestant.name(), outcome.millis, outcome.broken));
        let mut sample = |figure: &str, value: f64| record.sample(contestant.name(), 0, &format!("{name}_{figure}"), value);
        sample("ms", outcome.millis);
        sample("broken", outcome.broken as f64);
        sample("pods_restarted", outcome.restarted.into());
    }
    Ok(())
}

struct Outcome {
    /// Until the change is complete and a new connection was answered.
    millis: f64,
    broken: usize,
    restarted: u32,
}

fn one(contestant: &mut dyn Contestant, change: Change) -> Result<Outcome> {
    let address = contestant.pair().server.addr(http::PORT);
    let pool = idle::open(&contestant.pair().client, address, POOL)?;
    let begin = Instant::now();
    let restarted = contestant.change(change)?;
    first(contestant)?;
    let millis = begin.elapsed().as_secs_f64() * 1e3;
    // Not a wait for something: what is open gets the chance to break.
    std::thread::sleep((begin + SETTLED).saturating_duration_since(Instant::now()));
    Ok(Outcome { millis, broken: pool.into_iter().filter(|stream| is_broken(stream)).count(), restarted })
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
