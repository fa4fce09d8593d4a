//! Requests at a fixed rate, whether answers come or not: an open loop, so that a slow answer makes the next ones late
//! and is not left out of the figures.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::Pod;

use super::idle;

/// Latencies of a run, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Requests that were answered, per second.
    pub(crate) per_second: f64,
}

/// Sends `rate` requests a second over `connections` connections, evenly spread.
pub(crate) fn run(client: &Pod, server: SocketAddr, rate: u32, connections: u32, seconds: u32) -> Result<Latency> {
    ensure!(rate >= connections, "at least one request a second on each of {connections} connections");
    let streams = idle::open(client, server, connections as usize)?;
    let interval = Duration::from_secs(1) * connections / rate;
    let begin = Instant::now() + Duration::from_millis(20);
    let count = rate * seconds / connections;
    let workers: Vec<_> = streams
        .into_iter()
        .zip(0..)
        .map(|(stream, number)| {
            let first = begin + interval * number / connections;
            thread::spawn(move || pace(stream, first, interval, count))
        })
        .collect();
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.join().map_err(|_| anyhow::anyhow!("a thread of the load has panicked"))??);
    }
    let took = begin.elapsed();
    summary(all, took)
}

/// One connection's part: a request whenever it is due. Returns how long each took.
fn pace(mut stream: TcpStream, first: Instant, interval: Duration, count: u32) -> Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(count as usize);
    for number in 0..count {
        let due = first + interval * number;
        let now = Instant::now();
        // A request that waited for the answer before it is late; one that the clock woke late is not.
        let sent = if now < due {
            thread::sleep(due - now);
            Instant::now()
        } else {
            due
        };
        idle::request(&mut stream).with_context(|| format!("request {number} of {count}"))?;
        latencies.push(sent.elapsed());
    }
    Ok(latencies)
}

fn summary(mut latencies: Vec<Duration>, took: Duration) -> Result<Latency> {
    ensure!(!latencies.is_empty(), "no request was answered");
    latencies.sort_unstable();
    let quantile = |part: f64| {
        let index = (latencies.len() as f64 * part) as usize;
        latencies[index.min(latencies.len() - 1)].as_secs_f64() * 1e6
    };
    Ok(Latency {
        p50: quantile(0.5),
        p99: quantile(0.99),
        p999: quantile(0.999),
        per_second: latencies.len() as f64 / took.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_latencies() {
        let latencies = (1..=1000).rev().map(Duration::from_micros).collect();
        let latency = summary(latencies, Duration::from_secs(2)).unwrap();
        assert_eq!((latency.p50.round(), latency.p99.round(), latency.p999.round()), (501.0, 991.0, 1000.0));
        assert_eq!(latency.per_second, 500.0);
        assert!(summary(Vec::new(), Duration::ZERO).is_err());
    }
}
