//! A key with the certificate that was issued for it: what one identity shows to its peers and checks them against.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use thiserror::Error;

use super::authority::IssuedChain;
use super::certificate::Certificate;
use super::clock::unix_time;
use super::keys::{KeyError, PrivateKey};
use super::verify::{Chain, Expected, PeerRejected, Side, TrustRoots};
use crate::model::identity::Identity;

/// A usable key, its chain and the roots of the mesh as they were issued together. Immutable; a renewal makes a new
/// one.
pub struct Credentials {
    identity: Identity,
    key: Arc<CertifiedKey>,
    roots: TrustRoots,
    serial: String,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Why an issued certificate is not taken into use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unusable {
    /// An empty chain or no roots.
    #[error("the authority sent {0}")]
    Missing(&'static str),
    /// A certificate or root that cannot be read.
    #[error("the authority sent {what} that cannot be read: {reason}")]
    Unreadable {
        /// Which part of the answer.
        what: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// Issued for another key than the one that asked.
    #[error("the authority certified another key than the one that asked")]
    KeyMismatch,
    /// Every peer would refuse it.
    #[error("the authority issued what peers would refuse: {0}")]
    Refused(#[from] PeerRejected),
    /// The key cannot sign.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Credentials {
    /// Takes the authority's answer for `key`, applying at `now` the rules that every peer will apply.
    ///
    /// # Errors
    /// [`Unusable`] when a peer would refuse it.
    pub fn accept(
        identity: &Identity,
        key: &PrivateKey,
        issued: IssuedChain,
        now: SystemTime,
    ) -> Result<Self, Unusable> {
        let chain: Vec<CertificateDer<'static>> = issued.chain.into_iter().map(CertificateDer::from).collect();
        let (leaf, intermediates) = chain.split_first().ok_or(Unusable::Missing("no certificate"))?;
        let roots: Vec<CertificateDer<'_>> = issued.roots.into_iter().map(CertificateDer::from).collect();
        if roots.is_empty() {
            return Err(Unusable::Missing("no trusted root"));
        }
        let roots = TrustRoots::new(&roots).map_err(|reason| Unusable::Unreadable { what: "a root", reason })?;
        let expected = Expected::OneOf(Arc::new([identity.clone()]));
        for side in [Side::Client, Side::Server] {
            roots
                .verify(Chain { leaf, intermediates }, side, &expected, unix_time(now))
                .map_err(|(rejected, _)| rejected)?;
        }
        let read = chain.iter().map(Certificate::read).collect::<Result<Vec<_>, _>>();
        let read = read.map_err(|error| Unusable::Unreadable { what: "a certificate", reason: error.to_string() })?;
        // Peers refuse the whole chain as soon as one part of it has expired.
        let not_after = read.iter().map(|part| part.not_after).min().ok_or(Unusable::Missing("no certificate"))?;
        let (serial, not_before) = (read[0].serial.clone(), read[0].not_before);
        let key = CertifiedKey::new(chain, key.signer()?);
        key.keys_match().map_err(|_| Unusable::KeyMismatch)?;
        Ok(Self { identity: identity.clone(), key: Arc::new(key), roots, serial, not_before, not_after })
    }

    /// Whom they are for.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The leaf's serial number in hexadecimal digits.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Since when the leaf is valid.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// The last second in which the whole chain is valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The key and its chain, for the TLS library.
    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }

    /// What peers are checked against.
    pub(super) fn roots(&self) -> &TrustRoots {
        &self.roots
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.identity)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}
