//! Counters that are kept elsewhere and read at each scrape.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// One such counter.
#[derive(Debug)]
pub(super) struct ReadCounter {
    /// Without `_total`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) read: fn() -> u64,
}

impl Collector for ReadCounter {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(self.name, self.help, None, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, u64, u64>(&(self.read)(), None)
    }
}
