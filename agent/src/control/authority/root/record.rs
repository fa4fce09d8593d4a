//! The authority as it is kept in a Secret, and how each step of a rotation changes it.
//!
//! Under Istio's names (`root-cert.pem`, `ca-cert.pem`, `ca-key.pem`, `cert-chain.pem`) it holds what signs and what to trust, so
//! that a copy of it serves as `cacerts` elsewhere. The root's own key and what a rotation needs lie beside it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use thiserror::Error;
use zeroize::Zeroizing;

use super::rotation::{Facts, Progress, Step, Timing, Wish};
use crate::drivers::certs::ca::cacerts::{CA_CERT, CA_KEY, CERT_CHAIN, CaCerts, CaCertsError, ROOT_CERT};
use crate::drivers::certs::ca::hierarchy::{Authority, UnreadableCertificate, bundle, validity};
use crate::drivers::certs::ca::issuer::{Issuer, IssuerError};
use crate::drivers::cluster::objects::secrets::SecretContent;
use crate::model::identity::TrustDomain;

/// An operator's wish, as an annotation of the Secret: `root` or `intermediate`. Taken away when it has been heard.
pub const ROTATE: &str = "sotto.dev/rotate";

const SIGNING_ROOT_CERT: &str = "signing-root-cert.pem";
const SIGNING_ROOT_KEY: &str = "signing-root-key.pem";
const NEXT_ROOT_CERT: &str = "next-root-cert.pem";
const NEXT_ROOT_KEY: &str = "next-root-key.pem";
const OLD_ROOT_CERT: &str = "old-root-cert.pem";
const SINCE: &str = "since";

/// The authority of a cluster.
#[derive(Clone, Debug)]
pub struct Record {
    root: Authority,
    intermediate: Authority,
    rotation: Rotation,
}

/// A rotation of the root under way.
#[derive(Clone, Debug)]
enum Rotation {
    None,
    Distributing { next: Authority, since: SystemTime },
    Retiring { old: String, since: SystemTime },
}

/// A Secret that holds no authority. It is never overwritten: it may be somebody's only copy of a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// A key of the Secret is not there.
    #[error(
        "has no key {0}; put it back, or delete the Secret to have a new authority made (every workload then needs a new certificate at once)"
    )]
    Missing(&'static str),
    /// A key of the Secret holds something else.
    #[error("{key} {reason}")]
    Unreadable {
        /// Which.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The certificates do not fit together.
    #[error(transparent)]
    Content(#[from] CaCertsError),
    /// A certificate that cannot be read.
    #[error("holds an unreadable certificate: {0}")]
    Certificate(#[from] UnreadableCertificate),
    /// The library cannot make a key or certificate.
    #[error(transparent)]
    Make(#[from] IssuerError),
}

impl Record {
    /// A new authority.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn create(trust_domain: &TrustDomain, timing: &Timing, now: SystemTime) -> Result<Self, RecordError> {
        let root = Authority::root(trust_domain, timing.root, now)?;
        let intermediate = root.intermediate(trust_domain, timing.intermediate, now)?;
        Ok(Self { root, intermediate, rotation: Rotation::None })
    }

    /// Reads the authority in a Secret.
    ///
    /// # Errors
    /// [`RecordError`] when it holds none, or only a part of one.
    pub fn read(content: &SecretContent) -> Result<Self, RecordError> {
        let text = |key: &'static str| {
            let bytes = content.data.get(key).ok_or(RecordError::Missing(key))?;
            let text = std::str::from_utf8(bytes);
            text.map_err(|error| RecordError::Unreadable { key, reason: error.to_string() })
        };
        let authority = |certificate, key| {
            Ok::<_, RecordError>(Authority {
                certificate: text(certificate)?.to_owned(),
                key: Zeroizing::new(text(key)?.to_owned()),
            })
        };
        let since = || {
            let parsed = humantime::parse_rfc3339(text(SINCE)?.trim());
            parsed.map_err(|error| RecordError::Unreadable { key: SINCE, reason: error.to_string() })
        };
        let rotation = if content.data.contains_key(NEXT_ROOT_CERT) {
            Rotation::Distributing { next: authority(NEXT_ROOT_CERT, NEXT_ROOT_KEY)?, since: since()? }
        } else if content.data.contains_key(OLD_ROOT_CERT) {
            Rotation::Retiring { old: text(OLD_ROOT_CERT)?.to_owned(), since: since()? }
        } else {
            Rotation::None
        };
        Ok(Self {
            root: authority(SIGNING_ROOT_CERT, SIGNING_ROOT_KEY)?,
            intermediate: authority(CA_CERT, CA_KEY)?,
            rotation,
        })
    }

    /// The content of the Secret that holds it, with `annotations` but for the wish.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn content(&self, annotations: &BTreeMap<String, String>) -> Result<SecretContent, RecordError> {
        let mut content = SecretContent { data: BTreeMap::new(), annotations: annotations.clone() };
        content.annotations.remove(ROTATE);
        let mut put = |key: &str, text: &str| content.data.insert(key.to_owned(), text.as_bytes().to_vec());
        put(ROOT_CERT, &self.bundle()?);
        put(CA_CERT, &self.intermediate.certificate);
        put(CA_KEY, &self.intermediate.key);
        put(CERT_CHAIN, &self.intermediate.certificate);
        put(SIGNING_ROOT_CERT, &self.root.certificate);
        put(SIGNING_ROOT_KEY, &self.root.key);
        let since = |at: SystemTime| humantime::format_rfc3339_millis(at).to_string();
        match &self.rotation {
            Rotation::None => {}
            Rotation::Distributing { next, since: at } => {
                put(NEXT_ROOT_CERT, &next.certificate);
                put(NEXT_ROOT_KEY, &next.key);
                put(SINCE, &since(*at));
            }
            Rotation::Retiring { old, since: at } => {
                put(OLD_ROOT_CERT, old);
                put(SINCE, &since(*at));
            }
        }
        Ok(content)
    }

    /// All roots to trust, PEM.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn bundle(&self) -> Result<String, RecordError> {
        let other = match &self.rotation {
            Rotation::None => None,
            Rotation::Distributing { next, .. } => Some(next.certificate.as_str()),
            Rotation::Retiring { old, .. } => Some(old.as_str()),
        };
        Ok(bundle([self.root.certificate.as_str()].into_iter().chain(other))?)
    }

    /// What signs.
    ///
    /// # Errors
    /// When the certificates do not fit together.
    pub fn issuer(&self, trust_domain: &TrustDomain, now: SystemTime) -> Result<Issuer, RecordError> {
        let files = CaCerts {
            root_cert: self.bundle()?.into_bytes(),
            ca_cert: self.intermediate.certificate.clone().into_bytes(),
            ca_key: Zeroizing::new(self.intermediate.key.as_bytes().to_vec()),
            cert_chain: self.intermediate.certificate.clone().into_bytes(),
        };
        Ok(files.issuer(trust_domain, now)?)
    }

    /// What a rotation is decided by; `annotations` are the Secret's.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn facts(&self, annotations: &BTreeMap<String, String>) -> Result<Facts, RecordError> {
        let progress = match self.rotation {
            Rotation::None => Progress::Steady,
            Rotation::Distributing { since, .. } => Progress::Distributing { since },
            Rotation::Retiring { since, .. } => Progress::Retiring { since },
        };
        let wish = match annotations.get(ROTATE).map(String::as_str) {
            Some("root") => Some(Wish::Root),
            Some("intermediate") => Some(Wish::Intermediate),
            Some(_) | None => None,
        };
        let (root, intermediate) = (validity(&self.root.certificate)?, validity(&self.intermediate.certificate)?);
        Ok(Facts { progress, root, intermediate, wish })
    }

    /// The authority after `step`.
    ///
    /// # Errors
    /// When a key or certificate cannot be made.
    pub fn after(
        &self,
        step: Step,
        trust_domain: &TrustDomain,
        timing: &Timing,
        now: SystemTime,
    ) -> Result<Self, RecordError> {
        let mut after = self.clone();
        match (step, &self.rotation) {
            (Step::Prepare, _) => {
                let next = Authority::root(trust_domain, timing.root, now)?;
                after.rotation = Rotation::Distributing { next, since: now };
            }
            (Step::Switch, Rotation::Distributing { next, .. }) => {
                after.intermediate = next.intermediate(trust_domain, timing.intermediate, now)?;
                after.root = next.clone();
                after.rotation = Rotation::Retiring { old: self.root.certificate.clone(), since: now };
            }
            (Step::Retire, _) => after.rotation = Rotation::None,
            (Step::RenewIntermediate, _) => {
                after.intermediate = self.root.intermediate(trust_domain, timing.intermediate, now)?;
            }
            (Step::Switch, Rotation::None | Rotation::Retiring { .. }) => {}
        }
        Ok(after)
    }
}
