//! The certificates of the identities that have work on this node: fetched when the first holder comes, renewed while
//! one is there, forgotten with the last.
//!
//! ```text
//! hold() ── first ──▶ fetching ── issued ──▶ ready ── half life ──▶ renewing ── issued ──▶ ready …
//!                        │ ▲                                          │ ▲
//!                        ▼ │ back-off                                 ▼ │ back-off, the old one serves
//!                      failed                                       failed ── not_after ──▶ expired: nothing serves
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use super::authority::Authority;
use super::clock::Clock;
use super::credentials::Credentials;
use super::renewal::{self, Lease, Renewals};
use crate::model::identity::Identity;
use crate::telemetry::metrics::CertificateFigures;

/// For how long certificates are asked when nothing else is configured, as in Istio.
pub const DEFAULT_LIFETIME: Duration = Duration::from_hours(24);

/// How the store asks for certificates.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// For how long each certificate is wanted. Seconds work; a day is usual.
    pub lifetime: Duration,
    /// After what time an authority that does not answer counts as one that failed.
    pub fetch_timeout: Duration,
    /// What certificates are judged by.
    pub clock: Clock,
}

/// Keys and certificates by identity.
#[derive(Clone)]
pub struct CertificateStore(Arc<Shared>);

/// Keeps one identity's key and certificate alive and fresh. Clones count as holders of their own.
#[derive(Clone)]
pub struct IdentityHandle(Arc<Held>);

/// Why an identity has no certificate to show.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CredentialsError {
    /// None was issued yet.
    #[error("{identity} has no certificate yet: {}", reason(.last_error.as_deref()))]
    NotIssued {
        /// Whose it would be.
        identity: Identity,
        /// What the last attempt ended with, if one ended.
        last_error: Option<Arc<str>>,
    },
    /// The last one ran out before another was issued. It is not used any more.
    #[error(
        "the certificate of {identity} expired at {}: {}",
        humantime::format_rfc3339_seconds(*.not_after),
        reason(.last_error.as_deref())
    )]
    Expired {
        /// Whose it was.
        identity: Identity,
        /// When it ran out.
        not_after: SystemTime,
        /// What the last attempt to renew it ended with.
        last_error: Option<Arc<str>>,
    },
}

/// One identity's certificate, for diagnostics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStatus {
    /// Whose it is.
    pub identity: Identity,
    /// The certificate, if one was ever issued.
    pub certificate: Option<IssuedCertificate>,
    /// How often it was replaced.
    pub rotations: u64,
    /// What the last attempt ended with, if that was no certificate.
    pub last_error: Option<Arc<str>>,
}

/// The facts of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// In hexadecimal digits.
    pub serial: String,
    /// Since when it is valid.
    pub not_before: SystemTime,
    /// Until when it and its chain are valid.
    pub not_after: SystemTime,
}

/// One identity that has holders.
pub(super) struct Held {
    identity: Identity,
    state: watch::Sender<State>,
    shared: Arc<Shared>,
    /// Dropped with the last holder, which ends the renewal.
    _forget: oneshot::Sender<Infallible>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Credentials>>,
    rotations: u64,
    last_error: Option<Arc<str>>,
}

struct Shared {
    held: Mutex<BTreeMap<Identity, Weak<Held>>>,
    leases: mpsc::UnboundedSender<Lease>,
    clock: Clock,
    issued: AtomicU64,
    rotations: AtomicU64,
    failures: AtomicU64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { lifetime: DEFAULT_LIFETIME, fetch_timeout: Duration::from_secs(20), clock: Clock::system() }
    }
}

impl CertificateStore {
    /// A store without identities, and the work behind it: a future to be driven for as long as certificates are
    /// wanted. It ends by itself when the store and every handle are gone; dropped before, it leaves the certificates
    /// as they are until they expire.
    pub fn new(
        authority: Arc<dyn Authority>,
        config: StoreConfig,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (leases, requests) = mpsc::unbounded_channel();
        let (issued, rotations, failures) = Default::default();
        let shared =
            Shared { held: Mutex::default(), leases, clock: config.clock.clone(), issued, rotations, failures };
        (Self(Arc::new(shared)), renewal::run(Renewals { authority, config }, requests))
    }

    /// Holds on to `identity`. The first holder starts the fetch; all later ones share what it brings.
    #[must_use]
    pub fn hold(&self, identity: &Identity) -> IdentityHandle {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(existing) = held.get(identity).and_then(Weak::upgrade) {
            return IdentityHandle(existing);
        }
        let (forget, forgotten) = oneshot::channel();
        let entry = Arc::new(Held {
            identity: identity.clone(),
            state: watch::Sender::new(State::default()),
            shared: Arc::clone(&self.0),
            _forget: forget,
        });
        held.insert(identity.clone(), Arc::downgrade(&entry));
        drop(held);
        if self.0.leases.send(Lease { held: Arc::downgrade(&entry), forgotten }).is_err() {
            entry.fail("the certificate store was shut down");
        }
        IdentityHandle(entry)
    }

    /// All identities with holders, in order.
    #[must_use]
    pub fn snapshot(&self) -> Vec<CertificateStatus> {
        self.held().iter().map(|held| held.status()).collect()
    }

    /// The certificates of this moment, and what happened to them since the start.
    #[must_use]
    pub fn figures(&self) -> CertificateFigures {
        let shared = &self.0;
        let mut figures = CertificateFigures {
            issued: shared.issued.load(Ordering::Relaxed),
            rotations: shared.rotations.load(Ordering::Relaxed),
            failures: shared.failures.load(Ordering::Relaxed),
            ..CertificateFigures::default()
        };
        for held in self.held() {
            match held.usable(&held.state.borrow()) {
                Ok(credentials) => {
                    figures.valid += 1;
                    let ends = credentials.not_after();
                    figures.first_expiry = Some(figures.first_expiry.map_or(ends, |first| first.min(ends)));
                }
                Err(CredentialsError::NotIssued { .. }) => figures.missing += 1,
                Err(CredentialsError::Expired { .. }) => figures.expired += 1,
            }
        }
        figures
    }

    /// The identities whose certificate ran out before another was issued.
    #[must_use]
    pub fn expired(&self) -> Vec<CredentialsError> {
        let errors = self.held().into_iter().filter_map(|held| held.usable(&held.state.borrow()).err());
        errors.filter(|error| matches!(error, CredentialsError::Expired { .. })).collect()
    }

    /// Taken out of the lock first: a last holder that goes away meanwhile would want it.
    fn held(&self) -> Vec<Arc<Held>> {
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.values().filter_map(Weak::upgrade).collect()
    }
}

impl IdentityHandle {
    /// Whose certificate this is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// What to show to a peer now. Costs a read lock that is held for the copy of a pointer; nothing waits behind it.
    ///
    /// # Errors
    /// [`CredentialsError`] when there is none yet, or it expired: an expired certificate is never handed out.
    pub fn credentials(&self) -> Result<Arc<Credentials>, CredentialsError> {
        self.0.usable(&self.0.state.borrow())
    }

    /// Waits up to `within` for a certificate that can be used.
    ///
    /// # Errors
    /// [`CredentialsError`] when there was none in time; it says what the last attempt ended with.
    pub async fn wait_ready(&self, within: Duration) -> Result<Arc<Credentials>, CredentialsError> {
        let mut states = self.0.state.subscribe();
        let ready = states.wait_for(|state| self.0.usable(state).is_ok());
        // The channel cannot be closed, as this handle holds its sending side.
        drop(tokio::time::timeout(within, ready).await);
        self.credentials()
    }

    /// The same for diagnostics.
    #[must_use]
    pub fn status(&self) -> CertificateStatus {
        self.0.status()
    }

    /// The clock that this certificate is judged by.
    pub(super) fn clock(&self) -> &Clock {
        self.0.clock()
    }
}

impl Held {
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Takes `credentials` into use; handshakes that start from now on show them.
    pub(super) fn replace(&self, credentials: Credentials) {
        self.shared.issued.fetch_add(1, Ordering::Relaxed);
        self.state.send_modify(|state| {
            self.shared.rotations.fetch_add(u64::from(state.current.is_some()), Ordering::Relaxed);
            state.rotations += u64::from(state.current.is_some());
            state.current = Some(Arc::new(credentials));
            state.last_error = None;
        });
    }

    /// Until when the certificate in use is valid, if there is one.
    pub(super) fn not_after(&self) -> Option<SystemTime> {
        self.state.borrow().current.as_ref().map(|current| current.not_after())
    }

    /// Notes a failure. Credentials that were still good stay in use.
    pub(super) fn fail(&self, error: &str) {
        self.shared.failures.fetch_add(1, Ordering::Relaxed);
        self.state.send_modify(|state| state.last_error = Some(error.into()));
    }

    fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    fn usable(&self, state: &State) -> Result<Arc<Credentials>, CredentialsError> {
        let (identity, last_error) = (self.identity.clone(), state.last_error.clone());
        match &state.current {
            None => Err(CredentialsError::NotIssued { identity, last_error }),
            Some(current) if self.clock().now() > current.not_after() => {
                Err(CredentialsError::Expired { identity, not_after: current.not_after(), last_error })
            }
            Some(current) => Ok(Arc::clone(current)),
        }
    }

    fn status(&self) -> CertificateStatus {
        let state = self.state.borrow();
        CertificateStatus {
            identity: self.identity.clone(),
            certificate: state.current.as_ref().map(|current| IssuedCertificate {
                serial: current.serial().to_owned(),
                not_before: current.not_before(),
                not_after: current.not_after(),
            }),
            rotations: state.rotations,
            last_error: state.last_error.clone(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
        // A new holder may have come in the meantime, with an entry of its own.
        if held.get(&self.identity).is_some_and(|entry| entry.strong_count() == 0) {
            held.remove(&self.identity);
        }
    }
}

impl fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateStore")
    }
}

impl fmt::Debug for IdentityHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityHandle({})", self.identity())
    }
}

fn reason(last_error: Option<&str>) -> &str {
    last_error.unwrap_or("no answer from the authority so far")
}
