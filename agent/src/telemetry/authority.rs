//! What a cluster's authority counts.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How a call for a certificate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With a certificate.
    Issued,
    /// The caller is known and may not have what it asked for, for this reason.
    Refused(&'static str),
    /// Nobody knows who the caller is.
    Unauthenticated,
    /// The request itself is wrong.
    BadRequest,
    /// The caller asks too often.
    TooMany,
    /// The API server or the root cannot be had.
    Unavailable,
}

/// The families of the authority. Clones count together.
#[derive(Clone, Debug)]
pub struct AuthorityMetrics {
    registry: Arc<Registry>,
    requests: Family<[(&'static str, &'static str); 1], Counter>,
    leads: Gauge,
    roots: Gauge,
    ends: Gauge,
}

impl Outcome {
    /// One word.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Refused(why) => why,
            Self::Unauthenticated => "unauthenticated",
            Self::BadRequest => "bad_request",
            Self::TooMany => "too_many",
            Self::Unavailable => "unavailable",
        }
    }
}

impl AuthorityMetrics {
    /// All families, registered under their names.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let (requests, leads, roots, ends) = (Family::default(), Gauge::default(), Gauge::default(), Gauge::default());
        let calls = Family::clone(&requests);
        registry.register("sotto_ca_requests", "Calls for certificates, by how they ended", calls);
        registry.register("sotto_ca_leader", "1 if this replica keeps the root", leads.clone());
        registry.register("sotto_ca_trusted_roots", "Roots that workloads are told to trust", roots.clone());
        registry.register(
            "sotto_ca_expiry_timestamp_seconds",
            "When the authority's certificate, or one above it, ends",
            ends.clone(),
        );
        Self { registry: Arc::new(registry), requests, leads, roots, ends }
    }

    /// Counts a call.
    pub fn count(&self, outcome: Outcome) {
        self.requests.get_or_create(&[("outcome", outcome.code())]).inc();
    }

    /// Notes whether this replica keeps the root.
    pub fn leads(&self, leads: bool) {
        self.leads.set(leads.into());
    }

    /// Notes how many roots are trusted and when the signing certificate ends.
    pub fn signs(&self, roots: usize, not_after: SystemTime) {
        self.roots.set(i64::try_from(roots).unwrap_or(i64::MAX));
        let seconds = not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.ends.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// Everything in the OpenMetrics text format.
    ///
    /// # Errors
    /// When a value cannot be written as text.
    pub fn page(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

impl Default for AuthorityMetrics {
    fn default() -> Self {
        Self::new()
    }
}
