//! The rules for a peer's certificate, and which of them one broke.
//!
//! In this order: it chains up to the roots of the mesh; it and its issuers are within their validity; it may be used
//! for its side of TLS; it is a workload's and no authority's; it has exactly one URI name, which is an identity; and
//! that identity is one that we speak to: from the same trust domain (a client's), or one of those that were expected
//! (a server's). Host names play no part.
//!
//! Names of other kinds beside the URI are allowed, as the X.509-SVID specification (section 2) allows them: authorities
//! add DNS names for clients outside of a mesh. They cannot lend an identity, as nothing here reads them. A second URI
//! could, so it is refused even if it is the same.

use std::sync::Arc;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};
use thiserror::Error;

use super::certificate::Certificate;
use super::provider::provider;
use crate::model::identity::{Identity, IdentityError, TrustDomain};

/// The longest part of a peer's name that an error repeats, in bytes.
const SHOWN: usize = 120;

/// The rule that a peer's certificate broke.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CertificateFault {
    /// No certificate, or one in a form that cannot be read.
    #[error("cannot be read: {0}")]
    Malformed(String),
    /// No chain to a root of the mesh.
    #[error("was not issued by the mesh's authority: it does not chain up to a trusted root")]
    UnknownRoot,
    /// It, or one of its issuers, is no longer valid.
    #[error("has expired, or its issuer's has")]
    Expired,
    /// It, or one of its issuers, is not valid yet.
    #[error("is not valid yet; compare the clocks of both nodes")]
    NotYetValid,
    /// An authority's own certificate.
    #[error("is an authority's own, not a workload's")]
    AuthorityAsLeaf,
    /// The extended key usage leaves out this side of TLS.
    #[error("may not be used by a TLS {0}")]
    Purpose(&'static str),
    /// None or several URI names.
    #[error("has {0} URI names where exactly one names the workload")]
    UriCount(usize),
    /// The URI is no identity.
    #[error("does not name a workload: {0}")]
    NotAnIdentity(#[from] IdentityError),
    /// Another trust domain than ours.
    #[error("belongs to another trust domain than ours, {0}")]
    TrustDomain(TrustDomain),
    /// A workload of the mesh, but not the one that the connection was meant for.
    #[error("belongs to another workload than expected: {0}")]
    Unexpected(String),
    /// Another reason of the library's.
    #[error("cannot be verified: {0}")]
    Unverifiable(String),
}

/// A peer's certificate that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the certificate of {} {fault}", .claimed.as_deref().unwrap_or("a peer without a name"))]
pub struct PeerRejected {
    /// What the certificate says its owner is, shortened. Not verified.
    pub claimed: Option<String>,
    /// The broken rule.
    pub fault: CertificateFault,
}

/// Which identities a verified peer may have.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    /// Any of this trust domain: what a server asks of its clients.
    TrustDomain(TrustDomain),
    /// One of these: what a client asks of its server.
    OneOf(Arc<[Identity]>),
}

/// The side of TLS that a certificate is shown by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// The roots of the mesh, parsed once.
#[derive(Clone, Debug)]
pub(super) struct TrustRoots {
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl TrustRoots {
    /// Parses `roots`; every one of them must be usable, so that a bundle never shrinks unnoticed.
    pub(super) fn new(roots: &[CertificateDer<'_>]) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone()).map_err(|error| error.to_string())?;
        }
        let roots = Arc::new(store);
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { roots, clients })
    }

    /// Applies every rule to the certificate that a peer on `side` shows. Returns the peer's identity, or what is wrong
    /// together with the library's own error where it has one, which knows the right TLS alert.
    pub(super) fn verify(
        &self,
        chain: Chain<'_>,
        side: Side,
        expected: &Expected,
        now: UnixTime,
    ) -> Result<Identity, (PeerRejected, Option<rustls::Error>)> {
        let certificate = Certificate::read(chain.leaf);
        let claimed = certificate.as_ref().ok().and_then(|read| read.uris.first()).map(|uri| shorten(uri));
        let reject = |fault| PeerRejected { claimed: claimed.clone(), fault };
        if let Err(error) = self.verify_chain(chain, side, now) {
            let mut fault = fault_of(&error, side);
            // The library has a rule for this too, but no name that it hands on.
            if matches!(fault, CertificateFault::Unverifiable(_)) && certificate.is_ok_and(|read| read.is_ca) {
                fault = CertificateFault::AuthorityAsLeaf;
            }
            return Err((reject(fault), Some(error)));
        }
        let certificate =
            certificate.map_err(|error| (reject(CertificateFault::Malformed(error.to_string())), None))?;
        verify_leaf(&certificate, expected).map_err(|fault| (reject(fault), None))
    }

    fn verify_chain(&self, chain: Chain<'_>, side: Side, now: UnixTime) -> Result<(), rustls::Error> {
        match side {
            Side::Client => self.clients.verify_client_cert(chain.leaf, chain.intermediates, now).map(|_| ()),
            Side::Server => verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(chain.leaf)?,
                &self.roots,
                chain.intermediates,
                now,
                provider().signature_verification_algorithms.all,
            ),
        }
    }
}

/// What a peer sends as its certificate.
#[derive(Clone, Copy)]
pub(super) struct Chain<'a> {
    pub(super) leaf: &'a CertificateDer<'a>,
    pub(super) intermediates: &'a [CertificateDer<'a>],
}

/// The rules about the leaf itself, once its chain is known to be good.
fn verify_leaf(certificate: &Certificate, expected: &Expected) -> Result<Identity, CertificateFault> {
    // X.509-SVID specification, sections 3.1 and 5.2: a leaf has neither the CA flag nor a key that signs certificates.
    if certificate.is_ca || certificate.signs_certificates == Some(true) || certificate.signs_revocations {
        return Err(CertificateFault::AuthorityAsLeaf);
    }
    let [uri] = certificate.uris.as_slice() else {
        return Err(CertificateFault::UriCount(certificate.uris.len()));
    };
    let identity: Identity = uri.parse()?;
    match expected {
        Expected::TrustDomain(ours) if identity.trust_domain() != ours => {
            Err(CertificateFault::TrustDomain(ours.clone()))
        }
        Expected::OneOf(identities) if !identities.contains(&identity) => {
            Err(CertificateFault::Unexpected(describe(identities)))
        }
        Expected::TrustDomain(_) | Expected::OneOf(_) => Ok(identity),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's enums grow; what is not ours to name is shown as it says it"
)]
fn fault_of(error: &rustls::Error, side: Side) -> CertificateFault {
    let rustls::Error::InvalidCertificate(error) = error else {
        return CertificateFault::Unverifiable(error.to_string());
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => CertificateFault::NotYetValid,
        // A chain whose signature does not fit ends at a root that only shares the name with ours.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => CertificateFault::UnknownRoot,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            CertificateFault::Purpose(match side {
                Side::Client => "client",
                Side::Server => "server",
            })
        }
        CertificateError::BadEncoding => CertificateFault::Malformed(error.to_string()),
        _ => CertificateFault::Unverifiable(error.to_string()),
    }
}

fn describe(identities: &[Identity]) -> String {
    match identities {
        [] => "none can be, the list is empty".to_owned(),
        [one] => shorten(&one.to_string()),
        [first, rest @ ..] => format!("{} or {} others", shorten(&first.to_string()), rest.len()),
    }
}

/// Keeps what a peer sent from flooding a log line or steering a terminal.
fn shorten(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_default).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
