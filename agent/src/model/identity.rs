//! Who a workload is: the SPIFFE identity that its certificate carries.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// The trust domain when none is configured, as in Istio.
pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// The longest SPIFFE ID that is accepted, in bytes (SPIFFE-ID specification, section 2.3).
const MAX_SPIFFE_ID: usize = 2048;

/// The name of the authority that vouches for a set of identities, for example `cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`: Istio's form of a SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    trust_domain: TrustDomain,
    namespace: Arc<str>,
    service_account: Arc<str>,
}

/// Why a text is not an identity or a trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The trust domain has a character outside `a-z 0-9 . - _`, is empty or is longer than 255 bytes.
    #[error("trust domain {0:?} must be 1 to 255 characters of a-z, 0-9, '.', '-' and '_'")]
    TrustDomain(String),
    /// The text does not have the form `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    #[error("{0:?} is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
    Form(String),
    /// A namespace or service account that no Kubernetes object could have.
    #[error("{0:?} is not a Kubernetes name: 1 to 253 characters of a-z, 0-9, '-' and '.'")]
    Name(String),
}

impl TrustDomain {
    /// Checks and takes a trust domain's name (SPIFFE-ID specification, section 2.1).
    ///
    /// # Errors
    /// [`IdentityError::TrustDomain`] when the name has a character or length that is not allowed.
    pub fn new(name: &str) -> Result<Self, IdentityError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if name.is_empty() || name.len() > 255 || !name.bytes().all(allowed) {
            return Err(IdentityError::TrustDomain(shorten(name)));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self(DEFAULT_TRUST_DOMAIN.into())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Identity {
    /// Puts an identity together from its parts.
    ///
    /// # Errors
    /// [`IdentityError::Name`] when the namespace or the service account is not a Kubernetes name.
    pub fn new(trust_domain: TrustDomain, namespace: &str, service_account: &str) -> Result<Self, IdentityError> {
        for name in [namespace, service_account] {
            if !is_kubernetes_name(name) {
                return Err(IdentityError::Name(shorten(name)));
            }
        }
        Ok(Self { trust_domain, namespace: namespace.into(), service_account: service_account.into() })
    }

    /// The authority that vouches for this identity.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The Kubernetes namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Kubernetes service account.
    #[must_use]
    pub fn service_account(&self) -> &str {
        &self.service_account
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let form = || IdentityError::Form(shorten(text));
        if text.len() > MAX_SPIFFE_ID {
            return Err(form());
        }
        let rest = text.strip_prefix("spiffe://").ok_or_else(form)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let &[trust_domain, "ns", namespace, "sa", service_account] = parts.as_slice() else {
            return Err(form());
        };
        Self::new(TrustDomain::new(trust_domain)?, namespace, service_account)
    }
}

fn is_kubernetes_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    !name.is_empty() && name.len() <= 253 && name.bytes().all(allowed)
}

/// Keeps what a hostile peer sent from flooding a log line.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, valid: bool) {
        let parsed = text.parse::<Identity>();
        assert_eq!(parsed.is_ok(), valid, "{text}: {parsed:?}");
        if let Ok(identity) = parsed {
            assert_eq!(identity.to_string(), text, "what was parsed prints as it was written");
        }
    }

    #[test]
    fn only_istio_spiffe_ids_are_identities() {
        check("spiffe://cluster.local/ns/default/sa/client", true);
        check("spiffe://td-1.example_x/ns/a.b/sa/c-d", true);
        check("spiffe://cluster.local/ns/default/sa/client/", false);
        check("spiffe://cluster.local/ns/default/sa/", false);
        check("spiffe://cluster.local/ns//sa/x", false);
        check("spiffe://Cluster.local/ns/default/sa/x", false);
        check("spiffe:///ns/default/sa/x", false);
        check("spiffe://cluster.local:80/ns/default/sa/x", false);
        check("spiffe://u@cluster.local/ns/default/sa/x", false);
        check("spiffe://cluster.local/ns/default/sa/x?q", false);
        check("spiffe://cluster.local/ns/default/sa/%61", false);
        check("https://cluster.local/ns/default/sa/x", false);
        check("spiffe://cluster.local/workload", false);
        check("", false);
        check(&format!("spiffe://cluster.local/ns/default/sa/{}", "a".repeat(3000)), false);
    }
}
