//! The work behind the store: one loop per held identity that fetches, waits for half the life, and fetches again.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::authority::{Authority, AuthorityError, SigningRequest};
use super::credentials::{Credentials, Unusable};
use super::keys::{KeyError, PrivateKey};
use super::rotation::{renew_at, retry_after};
use super::store::{Held, StoreConfig};
use crate::model::identity::Identity;

/// How many requests the authority gets at the same time from one node.
const CONCURRENT_FETCHES: usize = 8;

/// The part of a wait by which it may be shortened at random.
const RETRY_SPREAD: f64 = 0.25;

/// What every loop needs.
pub(super) struct Renewals {
    pub(super) authority: Arc<dyn Authority>,
    pub(super) config: StoreConfig,
}

/// An identity to keep fresh until it is forgotten.
pub(super) struct Lease {
    pub(super) held: Weak<Held>,
    pub(super) forgotten: oneshot::Receiver<Infallible>,
}

#[derive(Debug, Error)]
enum FetchError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("the authority did not answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
}

/// Serves `leases` until nobody can send another and all are forgotten.
pub(super) async fn run(renewals: Renewals, mut leases: mpsc::UnboundedReceiver<Lease>) {
    let slots = Semaphore::new(CONCURRENT_FETCHES);
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            lease = leases.recv() => match lease {
                Some(lease) => running.push(serve(&renewals, &slots, lease)),
                None => break,
            },
            Some(()) = running.next() => {}
        }
    }
    while running.next().await.is_some() {}
}

async fn serve(renewals: &Renewals, slots: &Semaphore, lease: Lease) {
    tokio::select! {
        biased;
        _ = lease.forgotten => {}
        () = keep_fresh(renewals, slots, &lease.held) => {}
    }
}

/// Returns when the last holder is gone.
async fn keep_fresh(renewals: &Renewals, slots: &Semaphore, held: &Weak<Held>) {
    let clock = &renewals.config.clock;
    let mut lifetime = renewals.config.lifetime;
    let mut failures = 0;
    // The entry is never kept over an await: that would count as a holder.
    while let Some(identity) = held.upgrade().map(|held| held.identity().clone()) {
        let fetched = fetch(renewals, slots, &identity).await;
        let now = clock.now();
        let Some(held) = held.upgrade() else { return };
        let next = match fetched {
            Ok(credentials) => {
                failures = 0;
                lifetime = credentials.not_after().duration_since(now).unwrap_or_default();
                tracing::debug!(%identity, serial = credentials.serial(), "certificate issued");
                let next = renew_at(now, credentials.not_after());
                held.replace(credentials);
                next
            }
            Err(error) => {
                failures += 1;
                let wait = retry_after(failures, lifetime.min(renewals.config.lifetime));
                // Nodes that all lost the authority at once should not come back at once.
                let wait = wait.mul_f64(1.0 - fastrand::f64() * RETRY_SPREAD);
                let serves_until = held.not_after().map(|end| humantime::format_rfc3339_seconds(end).to_string());
                tracing::warn!(%identity, %error, failures, retry_in = ?wait, serves_until, "no new certificate");
                held.fail(&error.to_string());
                now + wait
            }
        };
        drop(held);
        clock.wait_until(next).await;
    }
}

async fn fetch(renewals: &Renewals, slots: &Semaphore, identity: &Identity) -> Result<Credentials, FetchError> {
    let _slot = slots.acquire().await;
    let Renewals { authority, config } = renewals;
    // Every certificate gets a key of its own: one that leaked is worth nothing after the next renewal.
    let key = PrivateKey::generate()?;
    let request = SigningRequest { csr: key.request(identity)?, identity: identity.clone(), lifetime: config.lifetime };
    let issued = tokio::time::timeout(config.fetch_timeout, authority.sign(request)).await;
    let issued = issued.map_err(|_| FetchError::Timeout(config.fetch_timeout))??;
    Ok(Credentials::accept(identity, &key, issued, config.clock.now())?)
}
