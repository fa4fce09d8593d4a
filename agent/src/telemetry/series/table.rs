//! The table of all series, and the handles that connections count with.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};

use super::cache;
use crate::telemetry::labels::{ConnectionLabels, Parties, Reporter, ResponseFlags};

/// What keeps the number of series within bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sets of labels with counters of their own; with 0 of them, connections are not counted at all.
    pub series: usize,
    /// A set that nobody has used for this long is dropped.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // Five families of some 900 bytes a sample: a page of at most 20 MB. The time is three of Prometheus' five-minute lookbacks.
        Self { series: 5_000, idle: Duration::from_mins(15) }
    }
}

/// All series of a process.
#[derive(Clone, Debug)]
pub struct ConnectionSeries(pub(super) Arc<Table>);

#[derive(Debug)]
pub(super) struct Table {
    pub(super) cluster: Arc<str>,
    pub(super) limits: Limits,
    pub(super) start: Instant,
    /// Seconds since the start when somebody last looked at the clock.
    pub(super) now: AtomicU64,
    pub(super) series: Mutex<HashMap<ConnectionLabels, Arc<Series>>>,
    /// Pairs of parties that are counted under `overflow`.
    pub(super) overflowed: Counter,
}

/// The counters of one set of labels.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) labels: ConnectionLabels,
    pub(super) opened: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    /// Who counts here; [`RETIRED`] once nobody may begin to.
    pub(super) users: AtomicU64,
    /// [`Table::now`] when the last user left.
    pub(super) touched: AtomicU64,
}

/// The place where one connection is counted, if it is. As long as it is there, its series is.
#[derive(Debug)]
pub struct Counted(pub(super) Option<Place>);

#[derive(Debug)]
pub(super) struct Place {
    pub(super) series: Arc<Series>,
    table: Arc<Table>,
}

pub(super) const RETIRED: u64 = 1 << 63;

/// How often the table is looked through at most, in seconds.
pub(super) const SWEEP_EVERY: u64 = 30;

impl ConnectionSeries {
    /// An empty table for the connections of an agent in `cluster`.
    #[must_use]
    pub fn new(cluster: &str, limits: Limits) -> Self {
        Self(Arc::new(Table {
            cluster: cluster.into(),
            limits,
            start: Instant::now(),
            now: AtomicU64::new(0),
            series: Mutex::default(),
            overflowed: Counter::default(),
        }))
    }

    /// The cluster's name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.0.cluster
    }

    /// Where a connection between these parties is counted.
    #[must_use]
    pub fn of(&self, parties: &Parties<'_>, flags: ResponseFlags) -> Counted {
        let counts = self.0.limits.series > 0;
        let place = || Place { series: cache::find(&self.0, parties, flags), table: Arc::clone(&self.0) };
        Counted(counts.then(place))
    }

    /// Drops what has not been used for long. Costs nothing when that was looked at a moment ago.
    pub fn expire(&self, now: Instant) {
        self.0.expire(now);
    }

    /// Sets of labels that there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether nothing was counted yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Istio's families, read at each scrape; `istio_` goes before their names.
    pub(in crate::telemetry) fn collector(&self) -> Box<dyn Collector> {
        Box::new(Arc::clone(&self.0))
    }

    /// What is told of the table itself.
    pub(in crate::telemetry) fn register(&self, registry: &mut Registry) {
        let help = "Times that parties had to be counted under the labels `overflow`, since there were too many others";
        registry.register("sotto_series_overflowed", help, self.0.overflowed.clone());
    }
}

impl Counted {
    /// Counts a connection whose bytes are relayed from now on.
    pub fn opened(&self) {
        self.count(|series| &series.opened, 1);
    }

    /// Counts the end of one.
    pub fn closed(&self) {
        self.count(|series| &series.closed, 1);
    }

    /// Counts one that ended before a byte could be relayed.
    pub fn failed(&self) {
        self.count(|series| &series.failed, 1);
    }

    /// Counts bytes that were not counted yet.
    pub fn bytes(&self, from_server: u64, from_client: u64) {
        self.count(|series| &series.sent, from_server);
        self.count(|series| &series.received, from_client);
    }

    fn count(&self, counter: impl FnOnce(&Series) -> &AtomicU64, amount: u64) {
        if let Some(Place { series, .. }) = &self.0 {
            counter(series).fetch_add(amount, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.series.touched.store(self.table.now.load(Ordering::Relaxed), Ordering::Relaxed);
        self.series.users.fetch_sub(1, Ordering::Release);
    }
}

impl Table {
    /// The series of these labels with one more user, made if need be.
    pub(super) fn acquire(&self, labels: ConnectionLabels) -> Arc<Series> {
        let mut all = self.lock();
        if let Some(series) = all.get(&labels).filter(|series| series.enter()) {
            return Arc::clone(series);
        }
        let overflow = labels.overflow();
        let labels = if all.len() >= self.limits.series && labels != overflow {
            self.overflowed.inc();
            overflow
        } else {
            labels
        };
        let made = all.entry(labels).or_insert_with_key(|labels| Arc::new(Series::new(labels.clone())));
        // Nothing retires while the lock is held.
        made.users.fetch_add(1, Ordering::Relaxed);
        Arc::clone(made)
    }

    pub(super) fn expire(&self, now: Instant) {
        let now = now.saturating_duration_since(self.start).as_secs();
        let before = self.now.swap(now, Ordering::Relaxed);
        let every = (self.limits.idle.as_secs() / 2).clamp(1, SWEEP_EVERY);
        if now / every == before / every {
            return;
        }
        let oldest = now.saturating_sub(self.limits.idle.as_secs());
        self.lock().retain(|_, series| series.touched.load(Ordering::Relaxed) >= oldest || !series.retire());
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ConnectionLabels, Arc<Series>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Series {
    pub(super) fn new(labels: ConnectionLabels) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            labels,
            opened: zero(),
            closed: zero(),
            failed: zero(),
            sent: zero(),
            received: zero(),
            users: zero(),
            touched: zero(),
        }
    }

    /// One more user, unless it has been dropped from the table.
    pub(super) fn enter(&self) -> bool {
        let open = self.users.fetch_add(1, Ordering::Acquire) & RETIRED == 0;
        if !open {
            self.users.fetch_sub(1, Ordering::Relaxed);
        }
        open
    }

    /// Lets nobody in any more, unless somebody is in.
    pub(super) fn retire(&self) -> bool {
        self.users.compare_exchange(0, RETIRED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether it has had a connection that was carried, and not failures alone.
    pub(super) fn carried(&self) -> bool {
        self.opened.load(Ordering::Relaxed) > 0
    }
}

/// Names, without `istio_` and `_total`, and where each is read. "sent" is the response's direction and "received" the request's,
/// from either reporter. Istio names those without OpenMetrics' order of words ("sent_bytes", not "bytes_sent").
type Family = (&'static str, &'static str, Option<Unit>, fn(&Series) -> Option<&AtomicU64>);

pub(super) const FAMILIES: [Family; 5] = [
    ("tcp_connections_opened", "TCP connections opened", None, |s| s.carried().then_some(&s.opened)),
    ("tcp_connections_closed", "TCP connections closed", None, |s| s.carried().then_some(&s.closed)),
    ("tcp_connections_failed", "TCP connections that ended before a byte could be relayed", None, |s| {
        (s.failed.load(Ordering::Relaxed) > 0).then_some(&s.failed)
    }),
    ("tcp_sent", "Bytes of responses", Some(Unit::Bytes), |s| s.carried().then_some(&s.sent)),
    ("tcp_received", "Bytes of requests", Some(Unit::Bytes), |s| s.carried().then_some(&s.received)),
];

impl Collector for Table {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.expire(Instant::now());
        let all: Vec<_> = self.lock().values().cloned().collect();
        for (name, help, unit, read) in &FAMILIES {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            for series in &all {
                if let Some(value) = read(series) {
                    let value = value.load(Ordering::Relaxed);
                    family.encode_family(&series.labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
                }
            }
        }
        let help = "TCP connections that are open";
        let mut family = encoder.encode_descriptor("tcp_sockets_open", help, None, MetricType::Gauge)?;
        for (reporter, name) in [(Reporter::Source, "source"), (Reporter::Destination, "destination")] {
            let of = all.iter().filter(|series| series.labels.reporter() == reporter);
            let open = of.map(|s| s.opened.load(Ordering::Relaxed).saturating_sub(s.closed.load(Ordering::Relaxed)));
            family.encode_family(&[("reporter", name)])?.encode_gauge(&open.sum::<u64>())?;
        }
        Ok(())
    }
}
