//! One contestant's turn: its proxies start, and every load is put on them.

use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::carriers::contestant::Contestant;
use crate::command::Options;
use crate::load::{bulk, http, idle, paced};
use crate::output::Record;
use crate::usage::{Cpu, Meter, Processes};

/// Connections of the load at a fixed rate.
const PACED_CONNECTIONS: u32 = 8;

/// The part of the fixed rate that has to be answered for latencies at that rate to mean anything.
const HELD: f64 = 0.95;

/// Small requests a second beside a bulk transfer, and how many connections they use.
const BESIDE: (u32, u32) = (500, 2);

/// Connections that are opened and kept, to see what one costs.
const IDLE_CONNECTIONS: usize = 1000;

/// How often a first request may be tried until something that said it was ready carries it.
const FIRST: Duration = Duration::from_secs(10);

/// Above this share of the machine that others used, a turn's figures are doubtful.
const NOISE: f64 = 0.1;

/// One contestant's turn.
pub(crate) struct Turn<'a> {
    pub(crate) options: &'a Options,
    pub(crate) meter: &'a Meter,
    pub(crate) record: &'a mut Record,
    pub(crate) contestant: &'a mut dyn Contestant,
    pub(crate) round: u32,
}

impl Turn<'_> {
    /// Starts the proxies, and puts every load on them.
    pub(crate) fn take(&mut self) -> Result<()> {
        let begin = self.cpu()?;
        let started = Instant::now();
        self.start()?;
        // Before any load: what an allocator has once taken it gives to new connections for nothing.
        self.idle()?;
        if self.contestant.carries_tcp() {
            self.throughput(1)?;
            self.throughput(4)?;
        }
        self.saturation(true)?;
        self.saturation(false)?;
        self.paced()?;
        if self.contestant.carries_tcp() {
            self.beside_bulk()?;
        }
        let processes = self.contestant.processes();
        if !processes.a.is_empty() {
            self.memory("memory_after_load", &processes)?;
        }
        self.contestant.prove()?;
        let used = self.cpu()? - begin;
        let others = used.machine.saturating_sub(used.all).as_secs_f64();
        let share = others / started.elapsed().as_secs_f64() / available_parallelism()?.get() as f64;
        self.sample("others_share", share);
        if share > NOISE {
            let (name, round) = (self.contestant.name(), self.round);
            self.record.note(format_args!(
                "round {round}, {name}: other processes used {:.0} % of the machine; its figures are doubtful",
                share * 100.0
            ));
        }
        Ok(())
    }

    /// Starts the proxies, and has a first request carried: the one that finds no tunnel yet.
    fn start(&mut self) -> Result<()> {
        let begin = Instant::now();
        self.contestant.start()?;
        let ready = begin.elapsed();
        let first = self.first_request()?;
        let processes = self.contestant.processes();
        self.sample("first_connection_us", first.as_secs_f64() * 1e6);
        if !processes.a.is_empty() {
            self.sample("startup_ms", ready.as_secs_f64() * 1e3);
            self.memory("memory_rest", &processes)?;
        }
        Ok(())
    }

    /// How long the first connection takes, from `connect()` to the end of the answer.
    fn first_request(&self) -> Result<Duration> {
        let pair = self.contestant.pair();
        let address = pair.server.addr(http::PORT);
        let end = Instant::now() + FIRST;
        loop {
            let begin = Instant::now();
            match idle::once(&pair.client, address) {
                Ok(_) => return Ok(begin.elapsed()),
                Err(error) if Instant::now() > end => return Err(error.context("the first request")),
                Err(_) => {}
            }
        }
    }

    fn throughput(&mut self, streams: u32) -> Result<()> {
        if !self.options.wants("throughput") {
            return Ok(());
        }
        let before = self.cpu()?;
        let pair = self.contestant.pair();
        let moved = bulk::transfer(&pair.client, pair.server.addr(bulk::PORT), streams, self.options.seconds)?;
        let used = self.cpu()? - before;
        self.sample(&format!("throughput_{streams}_gbits"), moved.rate / 1e9);
        self.cost(&format!("gb_{streams}"), used, moved.bytes / 1e9);
        Ok(())
    }

    fn saturation(&mut self, reuse: bool) -> Result<()> {
        let (group, figure, per) =
            if reuse { ("requests", "requests", "request") } else { ("connections", "connections", "connection") };
        if !self.options.wants(group) {
            return Ok(());
        }
        let before = self.cpu()?;
        let pair = self.contestant.pair();
        let http = http::saturate(&pair.client, pair.server.addr(http::PORT), reuse, self.options.seconds)?;
        let used = self.cpu()? - before;
        self.sample(&format!("{figure}_per_s"), http.per_second);
        self.sample(&format!("{figure}_p50_us"), http.p50);
        self.sample(&format!("{figure}_p99_us"), http.p99);
        self.sample(&format!("{figure}_errors"), http.errors);
        self.cost(&format!("1k_{per}s"), used, http.requests / 1e3);
        Ok(())
    }

    fn paced(&mut self) -> Result<()> {
        if !self.options.wants("latency") {
            return Ok(());
        }
        let pair = self.contestant.pair();
        let address = pair.server.addr(http::PORT);
        let latency = paced::run(&pair.client, address, self.options.rate, PACED_CONNECTIONS, self.options.seconds)?;
        self.sample("paced_p50_us", latency.p50);
        self.sample("paced_p99_us", latency.p99);
        self.sample("paced_p999_us", latency.p999);
        self.sample("paced_per_s", latency.per_second);
        if latency.per_second < f64::from(self.options.rate) * HELD {
            let (name, round, got, rate) = (self.contestant.name(), self.round, latency.per_second, self.options.rate);
            self.record.note(format_args!(
                "round {round}, {name}: answered {got:.0} of {rate} requests a second; its latencies at that rate are those of a queue"
            ));
        }
        Ok(())
    }

    /// A few requests alone, and the same beside one bulk transfer.
    fn beside_bulk(&mut self) -> Result<()> {
        if !self.options.wants("beside") {
            return Ok(());
        }
        let pair = self.contestant.pair();
        let (requests, transfers) = (pair.server.addr(http::PORT), pair.server.addr(bulk::PORT));
        let seconds = self.options.seconds;
        let alone = paced::run(&pair.client, requests, BESIDE.0, BESIDE.1, seconds)?;
        let (beside, moved) = thread::scope(|scope| {
            // Longer on both sides than the requests, which connect while it begins.
            let transfer = scope.spawn(|| bulk::transfer(&pair.client, transfers, 1, seconds + 1));
            let beside = paced::run(&pair.client, requests, BESIDE.0, BESIDE.1, seconds);
            (beside, transfer.join())
        });
        let moved = moved.map_err(|_| anyhow::anyhow!("the thread of the transfer has panicked"))??;
        let beside = beside?;
        self.sample("alone_p50_us", alone.p50);
        self.sample("alone_p99_us", alone.p99);
        self.sample("beside_p50_us", beside.p50);
        self.sample("beside_p99_us", beside.p99);
        self.sample("beside_p50_ratio", beside.p50 / alone.p50);
        self.sample("beside_gbits", moved.rate / 1e9);
        Ok(())
    }

    /// What one more connection costs that is open and silent, where there is one already: the first brings a tunnel along, and the
    /// program's own code that it runs through.
    fn idle(&mut self) -> Result<()> {
        let processes = self.contestant.processes();
        if processes.a.is_empty() || !self.options.wants("memory") {
            return Ok(());
        }
        let pair = self.contestant.pair();
        let (client, server) = (&pair.client, pair.server.addr(http::PORT));
        let first = idle::once(client, server)?;
        let before = (Processes::memory(&processes.a)?, Processes::memory(&processes.b)?);
        let open = idle::open(client, server, IDLE_CONNECTIONS)?;
        let after = (Processes::memory(&processes.a)?, Processes::memory(&processes.b)?);
        drop((first, open));
        let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / IDLE_CONNECTIONS as f64 / 1024.0;
        self.sample("idle_connection_a_kib", each(before.0, after.0));
        self.sample("idle_connection_b_kib", each(before.1, after.1));
        self.sample("idle_connection_kib", each(before.0, after.0) + each(before.1, after.1));
        Ok(())
    }

    /// Resident memory of both sides in MiB.
    fn memory(&mut self, figure: &str, processes: &Processes) -> Result<()> {
        let mib = |pids: &[u32]| anyhow::Ok(Processes::memory(pids)? as f64 / f64::from(1 << 20));
        let (a, b) = (mib(&processes.a)?, mib(&processes.b)?);
        self.sample(&format!("{figure}_a_mib"), a);
        if !processes.b.is_empty() {
            self.sample(&format!("{figure}_b_mib"), b);
        }
        self.sample(&format!("{figure}_mib"), a + b);
        Ok(())
    }

    /// Processor time for each unit of work: of the proxies, side by side, and of everything.
    fn cost(&mut self, per: &str, used: Cpu, units: f64) {
        let each = |time: Duration| time.as_secs_f64() * 1e3 / units.max(f64::MIN_POSITIVE);
        if !self.contestant.processes().a.is_empty() {
            self.sample(&format!("cpu_ms_per_{per}_a"), each(used.a));
            self.sample(&format!("cpu_ms_per_{per}_b"), each(used.b));
            self.sample(&format!("cpu_ms_per_{per}"), each(used.a + used.b));
        }
        self.sample(&format!("cpu_ms_per_{per}_all"), each(used.all));
    }

    fn cpu(&self) -> Result<Cpu> {
        self.meter.read(&self.contestant.processes())
    }

    fn sample(&mut self, figure: &str, value: f64) {
        self.record.sample(self.contestant.name(), self.round, figure, value);
    }
}
