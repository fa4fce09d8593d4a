//! One call from its token to its certificate.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::authorize::{Claim, Refusal, Rules, hosts, node_of};
use super::caller::{BoundPod, Caller};
use super::limits::{Limits, Rate};
use super::witness::Witness;
use crate::control::authority::root::signer::Signer;
use crate::drivers::certs::authority::{AuthorityError, SigningRequest};
use crate::drivers::certs::clock::Clock;
use crate::drivers::certs::keys::CertificateRequest;
use crate::drivers::cluster::ApiError;
use crate::drivers::cluster::node_pods::Freshness;
use crate::drivers::grpc::service::{CallError, CertificateCall, CertificateService, ErrorKind};
use crate::model::identity::Identity;
use crate::runtime::rate::RateLimit;
use crate::telemetry::authority::{AuthorityMetrics, Outcome};

/// Calls from one address before anything is known about the caller: each costs a question to the API server. Several callers
/// may share an address behind NAT.
const PER_ADDRESS: Rate = Rate { burst: 2000, every: Duration::from_millis(5) };

/// Calls of one pod: a node agent that starts on a full node asks for some hundred identities at once.
const PER_CALLER: Rate = Rate { burst: 1000, every: Duration::from_millis(20) };

/// Refusals that are logged: these at once, one more per second.
const LOGGED_BURST: u32 = 20;
const LOGGED_EVERY: Duration = Duration::from_secs(1);

/// Settings of the service.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who may have what.
    pub rules: Rules,
    /// The longest life of a certificate; also what is given to those who do not say how long.
    pub max_lifetime: Duration,
    /// What certificates are judged by.
    pub clock: Clock,
}

/// Answers calls of the certificate service.
pub struct Issuance {
    config: Config,
    witness: Arc<dyn Witness>,
    signer: watch::Receiver<Signer>,
    metrics: AuthorityMetrics,
    by_address: Limits<IpAddr>,
    by_caller: Limits<Caller>,
    refusals: RateLimit,
}

/// How a call ended that got no certificate.
struct Failed {
    outcome: Outcome,
    error: CallError,
}

impl Issuance {
    /// A service that signs with whatever `signer` holds at the time.
    #[must_use]
    pub fn new(
        config: Config,
        witness: Arc<dyn Witness>,
        signer: watch::Receiver<Signer>,
        metrics: AuthorityMetrics,
    ) -> Self {
        Self {
            config,
            witness,
            signer,
            metrics,
            by_address: Limits::new(PER_ADDRESS),
            by_caller: Limits::new(PER_CALLER),
            refusals: RateLimit::new(LOGGED_BURST, LOGGED_EVERY),
        }
    }

    async fn answer(&self, call: CertificateCall) -> Result<Vec<String>, CallError> {
        let started = Instant::now();
        let (peer, wanted) = (call.peer, call.wanted.impersonated.clone());
        let mut caller = None;
        let result = self.issue(call, &mut caller).await;
        let caller = caller.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        match result {
            Ok((identity, texts)) => {
                self.metrics.count(Outcome::Issued);
                tracing::debug!(%identity, %caller, %peer, took = ?started.elapsed(), "certificate issued");
                Ok(texts)
            }
            Err(Failed { outcome, error }) => {
                self.metrics.count(outcome);
                if let Some(suppressed) = self.refusals.allow(Instant::now()) {
                    let wanted = wanted.as_deref().map(shorten);
                    tracing::warn!(%caller, %peer, wanted, reason = outcome.code(), suppressed, %error, "no certificate issued");
                }
                Err(error)
            }
        }
    }

    async fn issue(
        &self,
        call: CertificateCall,
        known: &mut Option<Caller>,
    ) -> Result<(Identity, Vec<String>), Failed> {
        if !self.by_address.allow(call.peer.ip(), Instant::now()) {
            return Err(Failed::too_many("from this address"));
        }
        let caller = self.caller(&call).await?;
        *known = Some(caller.clone());
        if !self.by_caller.allow(caller.clone(), Instant::now()) {
            return Err(Failed::too_many("of this pod"));
        }
        let identity = self.authorized(&caller, call.wanted.impersonated.as_deref()).await?;
        let csr = CertificateRequest::from_pem(&call.wanted.csr)
            .map_err(|error| Failed::new(Outcome::BadRequest, ErrorKind::Invalid, error.to_string()))?;
        let asked = Some(call.wanted.lifetime).filter(|asked| !asked.is_zero());
        let lifetime = asked.unwrap_or(self.config.max_lifetime).min(self.config.max_lifetime);
        let request = SigningRequest { csr, identity: identity.clone(), lifetime };
        let signer = self.signer.borrow().clone();
        let issued = signer.sign(&request, self.config.clock.now(), Instant::now()).map_err(|error| match error {
            AuthorityError::Refused(reason) => Failed::new(Outcome::BadRequest, ErrorKind::Invalid, reason),
            AuthorityError::Unavailable(reason) | AuthorityError::BadAnswer(reason) => {
                Failed::new(Outcome::Unavailable, ErrorKind::Unavailable, reason)
            }
        })?;
        Ok((identity, issued.to_texts()))
    }

    async fn caller(&self, call: &CertificateCall) -> Result<Caller, Failed> {
        let unauthenticated =
            |reason: String| Failed::new(Outcome::Unauthenticated, ErrorKind::Unauthenticated, reason);
        let token = call
            .token
            .as_ref()
            .ok_or_else(|| unauthenticated("the call has no token; send `authorization: Bearer TOKEN`".to_owned()))?;
        let reviewed = self.witness.review(token.reveal()).await.map_err(Failed::unknown)?;
        let reviewed = reviewed
            .map_err(|reason| unauthenticated(format!("the API server does not accept the token: {reason}")))?;
        Caller::read(&reviewed.username, &reviewed.extra).map_err(unauthenticated)
    }

    async fn authorized(&self, caller: &Caller, wanted: Option<&str>) -> Result<Identity, Failed> {
        match self.config.rules.claim(caller, wanted)? {
            Claim::Own { identity, pod } => {
                self.node(caller, &pod).await?;
                Ok(identity)
            }
            Claim::OnBehalf { identity, pod } => {
                let node = self.node(caller, &pod).await?;
                for fresh in [Freshness::Cached, Freshness::Exact] {
                    let pods = self.witness.pods_on(&node, fresh).await.map_err(Failed::unknown)?;
                    if hosts(&pods, &node, &identity) {
                        return Ok(identity);
                    }
                }
                Err(Refusal::NotOnNode { identity, node }.into())
            }
        }
    }

    /// The node of the caller's pod. What the token's review says about the node saves the question.
    async fn node(&self, caller: &Caller, pod: &BoundPod) -> Result<String, Failed> {
        if let Some(node) = &pod.node {
            return Ok(node.clone());
        }
        let found = self.witness.pod(&caller.account.namespace, &pod.name).await.map_err(Failed::unknown)?;
        Ok(node_of(pod, found.as_ref())?)
    }
}

impl CertificateService for Issuance {
    fn create_certificate(&self, call: CertificateCall) -> BoxFuture<'_, Result<Vec<String>, CallError>> {
        Box::pin(self.answer(call))
    }
}

impl Failed {
    fn new(outcome: Outcome, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { outcome, error: CallError::new(kind, message) }
    }

    fn too_many(whose: &str) -> Self {
        Self::new(Outcome::TooMany, ErrorKind::Exhausted, format!("too many requests {whose}; try again later"))
    }

    /// The caller learns that nothing is wrong with it; the log has the details.
    fn unknown(error: ApiError) -> Self {
        let message = format!("the authority cannot ask the API server who you are: {error}");
        Self::new(Outcome::Unavailable, ErrorKind::Unavailable, message)
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::new(Outcome::Refused(refusal.code()), ErrorKind::Denied, refusal.to_string())
    }
}

impl std::fmt::Debug for Issuance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuance").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Keeps what a caller sent from flooding a log line or steering a terminal.
fn shorten(text: &str) -> String {
    text.chars().take(120).flat_map(char::escape_default).collect()
}
