//! Whether a caller may have a certificate for an identity: pure.
//!
//! - Without another identity in the request it is the caller's own: that of the pod which its token is bound to.
//! - A node agent asks on behalf of the pods of its node. It must run as one of the service accounts that are trusted with that,
//!   and the identity must have a live pod on the node of the agent's own pod. What a stolen token of an agent is worth is
//!   thereby bounded to the identities of its node, and ends with the agent's pod.

use thiserror::Error;

use super::caller::{BoundPod, Caller, ServiceAccount};
use crate::drivers::cluster::node_pods::PodFacts;
use crate::model::identity::{Identity, IdentityError, TrustDomain};

/// What does not change from call to call.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The trust domain of all identities.
    pub trust_domain: TrustDomain,
    /// Who may ask on behalf of others: the service accounts of node agents.
    pub node_accounts: Vec<ServiceAccount>,
}

/// What has to be known about the cluster before an identity is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The caller's own identity, which its pod vouches for.
    Own {
        /// The identity.
        identity: Identity,
        /// The caller's pod.
        pod: BoundPod,
    },
    /// An identity on behalf of a pod of the caller's node.
    OnBehalf {
        /// The identity.
        identity: Identity,
        /// The caller's pod, whose node it is about.
        pod: BoundPod,
    },
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No identity.
    #[error("the requested identity {0}")]
    NotAnIdentity(#[from] IdentityError),
    /// Another mesh's identity.
    #[error("{identity} is not of this mesh's trust domain, {ours}")]
    TrustDomain {
        /// The wanted identity.
        identity: Identity,
        /// The trust domain.
        ours: TrustDomain,
    },
    /// A token from `kubectl create token` or an old one from a Secret.
    #[error(
        "the token is not bound to a pod; use one that the kubelet projects into the pod (serviceAccountToken volume)"
    )]
    NoPod,
    /// Asks for others without being a node agent.
    #[error("{account} may not ask for the identities of others; node agents run as {}", list(.trusted))]
    NotANodeAgent {
        /// Whom the caller runs as.
        account: ServiceAccount,
        /// Who may.
        trusted: Vec<ServiceAccount>,
    },
    /// The caller's pod is gone, or another pod has its name.
    #[error("the caller's pod {0} is gone")]
    CallerGone(String),
    /// The caller's pod was not scheduled.
    #[error("the caller's pod {0} runs on no node")]
    CallerNowhere(String),
    /// The identity is not at home on the node.
    #[error("{identity} has no pod on the caller's node {node} that the mesh could carry")]
    NotOnNode {
        /// The wanted identity.
        identity: Identity,
        /// The caller's node.
        node: String,
    },
}

impl Refusal {
    /// One word for metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAnIdentity(_) => "not_an_identity",
            Self::TrustDomain { .. } => "trust_domain",
            Self::NoPod => "no_pod",
            Self::NotANodeAgent { .. } => "not_a_node_agent",
            Self::CallerGone(_) => "caller_gone",
            Self::CallerNowhere(_) => "caller_nowhere",
            Self::NotOnNode { .. } => "not_on_node",
        }
    }
}

impl Rules {
    /// What a caller claims who asks for `wanted`, or for itself.
    ///
    /// # Errors
    /// [`Refusal`] where no look at the cluster could change it.
    pub fn claim(&self, caller: &Caller, wanted: Option<&str>) -> Result<Claim, Refusal> {
        let pod = caller.pod.clone().ok_or(Refusal::NoPod)?;
        let Some(wanted) = wanted else {
            let ServiceAccount { namespace, name } = &caller.account;
            return Ok(Claim::Own { identity: Identity::new(self.trust_domain.clone(), namespace, name)?, pod });
        };
        if !self.node_accounts.contains(&caller.account) {
            let (account, trusted) = (caller.account.clone(), self.node_accounts.clone());
            return Err(Refusal::NotANodeAgent { account, trusted });
        }
        let identity: Identity = wanted.parse()?;
        if *identity.trust_domain() != self.trust_domain {
            return Err(Refusal::TrustDomain { identity, ours: self.trust_domain.clone() });
        }
        Ok(Claim::OnBehalf { identity, pod })
    }
}

/// The node of the caller's pod, from the pod as the cluster knows it.
///
/// # Errors
/// [`Refusal`] when it is not that pod any more, or runs nowhere.
pub fn node_of(bound: &BoundPod, found: Option<&PodFacts>) -> Result<String, Refusal> {
    match found {
        Some(pod) if pod.uid == bound.uid && !pod.finished && !pod.node.is_empty() => Ok(pod.node.clone()),
        Some(pod) if pod.uid == bound.uid && !pod.finished => Err(Refusal::CallerNowhere(bound.name.clone())),
        Some(_) | None => Err(Refusal::CallerGone(bound.name.clone())),
    }
}

/// Whether one of a node's `pods` has this identity and could be carried by the mesh: it has not ended, and it has a network of
/// its own.
#[must_use]
pub fn hosts(pods: &[PodFacts], node: &str, identity: &Identity) -> bool {
    pods.iter().any(|pod| {
        pod.node == node
            && pod.namespace == identity.namespace()
            && pod.service_account == identity.service_account()
            && !pod.host_network
            && !pod.finished
    })
}

fn list(accounts: &[ServiceAccount]) -> String {
    accounts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}
