//! How busy the data-plane threads are.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use tokio::runtime::RuntimeMetrics;

/// The runtimes of the data-plane threads. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ThreadMetrics(Arc<Mutex<Vec<RuntimeMetrics>>>);

impl ThreadMetrics {
    /// Adds the runtime that this is called in.
    pub fn watch_this(&self) {
        let runtime = tokio::runtime::Handle::current().metrics();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(runtime);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }
}

impl Collector for ThreadMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let runtimes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let help = "Time that a data-plane thread has worked; a rate near 1 is one that can do no more";
        let unit = Some(&Unit::Seconds);
        let mut family = encoder.encode_descriptor("sotto_thread_busy", help, unit, MetricType::Counter)?;
        for (number, runtime) in runtimes.iter().enumerate() {
            let busy = runtime.worker_total_busy_duration(0).as_secs_f64();
            let labels = [("thread", number.to_string())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, f64, u64>(&busy, None)?;
        }
        Ok(())
    }
}
