//! Looks after the authority's key: every replica reads it again and again, and the one that leads makes it, rotates it and
//! publishes the roots.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;
use tokio::sync::watch;

use super::plugged::{Chosen, Plugged, PluggedError};
use super::record::{Record, RecordError};
use super::rotation::{self, Timing};
use super::signer::Signer;
use crate::drivers::certs::ca::cacerts::ROOT_CERT;
use crate::drivers::certs::ca::hierarchy::{UnreadableCertificate, split};
use crate::drivers::certs::ca::issuer::{Issuer, IssuerError};
use crate::drivers::certs::ca::serving::ServingCertificate;
use crate::drivers::certs::clock::Clock;
use crate::drivers::cluster::objects::{config_maps, secrets};
use crate::drivers::cluster::{ApiError, Cluster};
use crate::model::identity::TrustDomain;
use crate::telemetry::authority::AuthorityMetrics;

/// Changes that one look may lead to: a rotation has three steps, and none is due right after another.
const STEPS_AT_ONCE: usize = 3;

/// Settings of the keeper.
#[derive(Clone, Debug)]
pub struct Config {
    /// The namespace of all its objects.
    pub namespace: String,
    /// The Secret in which an operator may plug an authority in.
    pub plugged_secret: String,
    /// The Secret for an authority of our own.
    pub own_secret: String,
    /// The ConfigMap that tells the roots.
    pub roots_config_map: String,
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The durations of a rotation.
    pub timing: Timing,
    /// How often to look.
    pub every: Duration,
    /// How long a key is used without another look.
    pub patience: Duration,
    /// The names that the authority's server has.
    pub names: Vec<String>,
    /// What certificates are judged by.
    pub clock: Clock,
}

/// What a look is for.
#[derive(Debug)]
pub struct Outputs {
    /// What calls are signed with.
    pub signer: watch::Sender<Signer>,
    /// What callers see.
    pub serving: ServingCertificate,
    /// What is counted.
    pub metrics: AuthorityMetrics,
}

/// Why there is no key, or none that is up to date.
#[derive(Debug, Error)]
enum KeeperError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the Secret {namespace}/{name} {source}")]
    Own { namespace: String, name: String, source: RecordError },
    #[error("the Secret {namespace}/{name} {source}")]
    Plugged { namespace: String, name: String, source: PluggedError },
    #[error("there is no root yet: another replica leads and makes it")]
    NotYet,
    #[error(transparent)]
    Serving(#[from] IssuerError),
    #[error(transparent)]
    Roots(#[from] UnreadableCertificate),
}

/// Keeps the key.
#[derive(Debug)]
pub struct Keeper {
    cluster: Cluster,
    config: Config,
    outputs: Outputs,
    leads: watch::Receiver<bool>,
    plugged: Plugged,
    current: Option<View>,
}

/// The authority as it is to be used.
#[derive(Debug)]
struct View {
    /// Changes whenever anything else here does.
    key: String,
    issuer: Arc<Issuer>,
    bundle: String,
}

impl Keeper {
    /// A keeper that has not looked yet; it changes things while `leads` is true.
    #[must_use]
    pub fn new(cluster: Cluster, config: Config, outputs: Outputs, leads: watch::Receiver<bool>) -> Self {
        Self { cluster, config, outputs, leads, plugged: Plugged::default(), current: None }
    }

    /// Looks and acts until dropped.
    pub async fn run(mut self) {
        let mut failing = false;
        loop {
            let looked = tokio::time::timeout(self.config.patience, self.look()).await;
            match looked {
                Ok(Ok(())) => failing = false,
                // Two replicas met; the next look sees what the other one wrote.
                Ok(Err(KeeperError::Api(error))) if error.code() == Some(409) => {
                    tracing::debug!(%error, "another replica was faster");
                    continue;
                }
                Ok(Err(error)) => {
                    if !failing {
                        tracing::error!(%error, "the authority's key cannot be looked after; certificates may not be issued");
                    }
                    failing = !matches!(error, KeeperError::NotYet);
                    self.explain(&error);
                }
                Err(_) => tracing::error!("the authority's key cannot be looked after: the API server is slow"),
            }
            tokio::select! {
                () = tokio::time::sleep(self.config.every) => {}
                // A new leader acts at once.
                changed = self.leads.changed() => if changed.is_err() { return },
            }
        }
    }

    /// A replica that never had a key says why, to its callers.
    fn explain(&self, error: &KeeperError) {
        self.outputs.signer.send_if_modified(|signer| {
            let missing = !signer.is_ready();
            if missing {
                *signer = Signer::missing(&error.to_string());
            }
            missing
        });
    }

    async fn look(&mut self) -> Result<(), KeeperError> {
        self.outputs.metrics.leads(self.leads());
        let seen = Instant::now();
        let now = self.config.clock.now();
        let Config { namespace, plugged_secret, .. } = &self.config;
        let view = match secrets::read(&self.cluster, namespace, plugged_secret).await? {
            Some(stored) => self.plugged(&stored, (now, seen))?,
            None => self.own(now).await?,
        };
        self.take(view, now, seen)?;
        if self.leads() {
            self.publish().await?;
        }
        Ok(())
    }

    /// Puts what was seen to use.
    fn take(&mut self, view: View, now: SystemTime, seen: Instant) -> Result<(), KeeperError> {
        let changed = self.current.as_ref().is_none_or(|current| current.key != view.key);
        let Outputs { signer, serving, metrics } = &self.outputs;
        signer.send_replace(Signer::new(Arc::clone(&view.issuer), seen, self.config.patience));
        if changed || serving.is_due(now) {
            serving.renew(&view.issuer, &self.config.names, self.config.timing.max_leaf, now)?;
        }
        let roots = split(&view.bundle)?.len();
        metrics.signs(roots, view.issuer.not_after());
        if changed {
            let until = humantime::format_rfc3339_seconds(view.issuer.not_after());
            tracing::info!(roots, %until, "the authority's key is in use");
        }
        self.current = Some(view);
        Ok(())
    }

    async fn publish(&self) -> Result<(), KeeperError> {
        let Some(view) = &self.current else { return Ok(()) };
        let Config { namespace, roots_config_map, .. } = &self.config;
        if config_maps::keep(&self.cluster, (namespace, roots_config_map), ROOT_CERT, &view.bundle).await? {
            tracing::info!(%namespace, config_map = %roots_config_map, "published the roots");
        }
        Ok(())
    }

    fn plugged(&mut self, stored: &secrets::Stored, at: (SystemTime, Instant)) -> Result<View, KeeperError> {
        let Config { namespace, plugged_secret, trust_domain, timing, .. } = &self.config;
        let chosen = self.plugged.observe(&stored.content, trust_domain, timing.wait, at);
        let Chosen { issuer, bundle, waits } = chosen.map_err(|source| KeeperError::Plugged {
            namespace: namespace.clone(),
            name: plugged_secret.clone(),
            source,
        })?;
        let key = format!("plugged {} {waits} {bundle}", stored.version());
        if waits && self.current.as_ref().is_none_or(|current| current.key != key) {
            tracing::warn!(
                secret = %plugged_secret,
                wait = ?timing.wait,
                "the plugged-in authority is under a new root; the one before it signs on until every workload knows that root"
            );
        }
        Ok(self.view(key, issuer, bundle))
    }

    async fn own(&self, now: SystemTime) -> Result<View, KeeperError> {
        let Config { namespace, own_secret, trust_domain, timing, .. } = &self.config;
        let failed = |source| KeeperError::Own { namespace: namespace.clone(), name: own_secret.clone(), source };
        let place = (namespace.as_str(), own_secret.as_str());
        let mut stored = match secrets::read(&self.cluster, namespace, own_secret).await? {
            Some(stored) => stored,
            None if self.leads() => {
                let new = Record::create(trust_domain, timing, now).map_err(failed)?;
                let content = new.content(&Default::default()).map_err(failed)?;
                tracing::info!(secret = %own_secret, %trust_domain, "made a new certificate authority");
                secrets::write(&self.cluster, place, &content, None).await?
            }
            None => return Err(KeeperError::NotYet),
        };
        let mut record = Record::read(&stored.content).map_err(failed)?;
        for _ in 0..STEPS_AT_ONCE {
            let facts = record.facts(&stored.content.annotations).map_err(failed)?;
            let Some(step) = rotation::next(&facts, timing, now).filter(|_| self.leads()) else { break };
            let after = record.after(step, trust_domain, timing, now).map_err(failed)?;
            let content = after.content(&stored.content.annotations).map_err(failed)?;
            stored = secrets::write(&self.cluster, place, &content, Some(&stored)).await?;
            tracing::info!(?step, secret = %own_secret, wait = ?timing.wait, "the authority's key changed");
            record = after;
        }
        let bundle = record.bundle().map_err(failed)?;
        let issuer = record.issuer(trust_domain, now).map_err(failed)?;
        Ok(self.view(format!("own {}", stored.version()), issuer, bundle))
    }

    fn view(&self, key: String, issuer: Issuer, bundle: String) -> View {
        View { key, issuer: Arc::new(issuer), bundle }
    }

    fn leads(&self) -> bool {
        *self.leads.borrow()
    }
}
