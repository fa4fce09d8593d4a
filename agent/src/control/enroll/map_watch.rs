//! Looks now and then how full the redirection's maps are.

use std::time::{Duration, Instant};

use crate::drivers::redirect::{Maps, Redirect};
use crate::telemetry::metrics::NodeMetrics;

/// How often: about once a scrape. A full map of 262,144 entries takes some tens of milliseconds.
const EVERY: Duration = Duration::from_secs(15);

/// The maps, and when they were last looked at.
pub(super) struct MapWatch {
    maps: Option<Maps>,
    looked: Option<Instant>,
}

impl MapWatch {
    /// Without the maps there are no figures, and nothing else is missing.
    pub(super) fn new(redirect: &Redirect) -> Self {
        let maps = redirect.maps().inspect_err(|error| {
            tracing::warn!(%error, "how full the redirection's maps are cannot be told; metrics of them will be missing");
        });
        Self { maps: maps.ok(), looked: None }
    }

    /// Takes the figures over if it is time.
    pub(super) fn look(&mut self, now: Instant, metrics: &NodeMetrics) {
        let Some(maps) = &self.maps else { return };
        if self.looked.is_some_and(|at| now - at < EVERY) {
            return;
        }
        self.looked = Some(now);
        match maps.fill() {
            Ok(fill) => metrics.maps(&fill),
            Err(error) => tracing::debug!(%error, "the redirection's maps cannot be counted"),
        }
    }
}
