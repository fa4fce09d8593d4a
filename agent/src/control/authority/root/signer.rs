//! What a replica signs with at the moment.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::drivers::certs::authority::{AuthorityError, IssuedChain, SigningRequest};
use crate::drivers::certs::ca::issuer::Issuer;

/// The authority's key as this replica last saw it, or why it has none.
#[derive(Clone, Debug)]
pub struct Signer(Result<Current, Arc<str>>);

#[derive(Clone, Debug)]
struct Current {
    issuer: Arc<Issuer>,
    seen: Instant,
    patience: Duration,
}

impl Signer {
    /// No key yet.
    #[must_use]
    pub fn missing(reason: &str) -> Self {
        Self(Err(reason.into()))
    }

    /// A key that was seen at `seen`. After `patience` without another look it is not used any more: the root may have been
    /// replaced, and roots are retired in the belief that every replica has noticed by then.
    #[must_use]
    pub fn new(issuer: Arc<Issuer>, seen: Instant, patience: Duration) -> Self {
        Self(Ok(Current { issuer, seen, patience }))
    }

    /// Whether there is a key.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.is_ok()
    }

    /// Why it cannot be used at `at`, if it cannot.
    #[must_use]
    pub fn unusable(&self, at: Instant) -> Option<String> {
        self.usable(at).err()
    }

    fn usable(&self, at: Instant) -> Result<&Issuer, String> {
        let current = self.0.as_ref().map_err(|reason| reason.to_string())?;
        let age = at.saturating_duration_since(current.seen);
        if age > current.patience {
            let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
            return Err(format!("the authority's key could not be compared with the cluster's for {age}"));
        }
        Ok(&current.issuer)
    }

    /// Signs as [`Issuer::sign`] does.
    ///
    /// # Errors
    /// As there; [`AuthorityError::Unavailable`] when there is no key, or it was not looked at for too long at `at`.
    pub fn sign(&self, request: &SigningRequest, now: SystemTime, at: Instant) -> Result<IssuedChain, AuthorityError> {
        self.usable(at).map_err(AuthorityError::Unavailable)?.sign(request, now)
    }
}
