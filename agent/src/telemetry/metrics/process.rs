//! The figures that every Prometheus client gives of its process, under their usual names.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::sys::process::{self, Figures};

/// Reads the process at each scrape.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

/// Name without its unit, help, unit, and where it is read.
type Metric = (&'static str, &'static str, Option<Unit>, fn(&Figures) -> f64);

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 descriptors or bytes")]
const GAUGES: [Metric; 5] = [
    ("open_fds", "Number of open file descriptors", None, |f| f.open_files as f64),
    ("max_fds", "Maximum number of open file descriptors", None, |f| f.most_files as f64),
    ("resident_memory", "Resident memory size", Some(Unit::Bytes), |f| f.resident_bytes as f64),
    ("virtual_memory", "Virtual memory size", Some(Unit::Bytes), |f| f.virtual_bytes as f64),
    ("start_time", "Start time of the process since the Unix epoch", Some(Unit::Seconds), |f| f.started),
];

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // Without /proc there are none of these; the others are there all the same.
        let Ok(figures) = process::figures() else { return Ok(()) };
        for (name, help, unit, read) in &GAUGES {
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            metric.encode_gauge(&read(&figures))?;
        }
        let (help, unit) = ("Total user and system CPU time spent", Some(&Unit::Seconds));
        let mut metric = encoder.encode_descriptor("cpu", help, unit, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, f64, u64>(&figures.cpu.as_secs_f64(), None)
    }
}
