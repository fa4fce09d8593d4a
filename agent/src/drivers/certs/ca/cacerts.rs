//! Reads an authority from the texts of Istio's `cacerts` files, and says which file is wrong and how to put it right.

use std::time::{Duration, SystemTime};

use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use thiserror::Error;
use zeroize::Zeroizing;

use super::issuer::{AuthorityChain, Issuer};
use crate::drivers::certs::authority::SigningRequest;
use crate::drivers::certs::certificate::Certificate;
use crate::drivers::certs::credentials::Credentials;
use crate::drivers::certs::keys::PrivateKey;
use crate::model::identity::{Identity, TrustDomain};

/// The roots that the mesh trusts, one or more.
pub const ROOT_CERT: &str = "root-cert.pem";
/// The certificate that signs.
pub const CA_CERT: &str = "ca-cert.pem";
/// Its private key.
pub const CA_KEY: &str = "ca-key.pem";
/// The certificates from `ca-cert.pem` up to a root. Empty is fine where `ca-cert.pem` is a root or signed by one.
pub const CERT_CHAIN: &str = "cert-chain.pem";

/// The most certificates in one file.
const MAX_CERTIFICATES: usize = 100;

/// How long the certificate lives that tries the authority out.
const TRIAL_LIFETIME: Duration = Duration::from_secs(60);

/// The four texts, as read.
pub struct CaCerts {
    /// `root-cert.pem`
    pub root_cert: Vec<u8>,
    /// `ca-cert.pem`
    pub ca_cert: Vec<u8>,
    /// `ca-key.pem`, overwritten in memory when dropped.
    pub ca_key: Zeroizing<Vec<u8>>,
    /// `cert-chain.pem`
    pub cert_chain: Vec<u8>,
}

/// One file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file} {fault}")]
pub struct CaCertsError {
    /// Its name.
    pub file: &'static str,
    /// What is wrong with it.
    pub fault: CaFault,
}

/// What is wrong with a file of an authority.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CaFault {
    /// Not one certificate.
    #[error("holds no certificate; put one there in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// Something that cannot be read.
    #[error("cannot be read: {0}; write it again in PEM")]
    Unreadable(String),
    /// Not one private key.
    #[error("holds no private key; put one there in PEM, PKCS#8, PKCS#1 or SEC1")]
    NoKey,
    /// A key under a passphrase.
    #[error("is encrypted; store it without a passphrase (openssl pkey -in OLD -out {CA_KEY})")]
    EncryptedKey,
    /// A kind of key that the library cannot use.
    #[error("is of a kind that cannot be used ({0}); use RSA of 2048 bits or more, EC P-256 or EC P-384")]
    UnsupportedKey(String),
    /// Another certificate's key.
    #[error("is not the key of {CA_CERT}; replace the one that does not belong here")]
    KeyMismatch,
    /// No authority's certificate.
    #[error(
        "may not sign certificates: it needs the basic constraint CA:TRUE and, if it has key usages, keyCertSign among them"
    )]
    NotAnAuthority,
    /// A certificate that is over.
    #[error("expired at {}; renew it", humantime::format_rfc3339_seconds(*.0))]
    Expired(SystemTime),
    /// A certificate of the future.
    #[error("is not valid before {}; compare the clocks of both machines", humantime::format_rfc3339_seconds(*.0))]
    NotYetValid(SystemTime),
    /// Peers could not follow the chain.
    #[error("and {ROOT_CERT} do not lead from {CA_CERT} to a root that peers accept: {0}")]
    NoChain(String),
}

impl CaCerts {
    /// Checks all four and makes an issuer of them that signs for `trust_domain`. The last check signs a certificate
    /// and verifies it as a peer would.
    ///
    /// # Errors
    /// [`CaCertsError`] for the first file that cannot be used.
    pub fn issuer(&self, trust_domain: &TrustDomain, now: SystemTime) -> Result<Issuer, CaCertsError> {
        let chain = self.chain(now)?;
        let key = self.key()?;
        let certified = ParsedCertificate::try_from(&chain.certificate)
            .map_err(|error| unreadable(CA_CERT, &error))?
            .subject_public_key_info();
        if certified.as_ref() != key.subject_public_key_info() {
            return Err(CaCertsError { file: CA_KEY, fault: CaFault::KeyMismatch });
        }
        let issuer = Issuer::new(chain, key, trust_domain.clone()).map_err(|error| unreadable(CA_CERT, &error))?;
        try_out(&issuer, now).map_err(|reason| CaCertsError { file: CERT_CHAIN, fault: CaFault::NoChain(reason) })?;
        Ok(issuer)
    }

    fn chain(&self, now: SystemTime) -> Result<AuthorityChain, CaCertsError> {
        let roots = certificates(ROOT_CERT, &self.root_cert)?;
        let certificate = certificates(CA_CERT, &self.ca_cert)?.into_iter().next().ok_or(no_certificate(CA_CERT))?;
        let mut intermediates: Vec<CertificateDer<'static>> = Vec::new();
        for candidate in std::iter::once(certificate.clone()).chain(certificates(CERT_CHAIN, &self.cert_chain)?) {
            if !roots.contains(&candidate) && !intermediates.contains(&candidate) {
                intermediates.push(candidate);
            }
        }
        let authority = check(CA_CERT, &certificate, now)?;
        if !authority.is_ca || authority.signs_certificates == Some(false) {
            return Err(CaCertsError { file: CA_CERT, fault: CaFault::NotAnAuthority });
        }
        let mut not_after = authority.not_after;
        for intermediate in &intermediates {
            not_after = not_after.min(check(CERT_CHAIN, intermediate, now)?.not_after);
        }
        let (roots, root_end) = valid_roots(roots, now)?;
        Ok(AuthorityChain { certificate, intermediates, roots, not_after: not_after.min(root_end) })
    }

    fn key(&self) -> Result<KeyPair, CaCertsError> {
        let bad = |fault| CaCertsError { file: CA_KEY, fault };
        let key = PrivateKeyDer::from_pem_slice(&self.ca_key).map_err(|_| {
            let encrypted = self.ca_key.windows(9).any(|window| window == b"ENCRYPTED");
            bad(if encrypted { CaFault::EncryptedKey } else { CaFault::NoKey })
        })?;
        KeyPair::try_from(&key).map_err(|error| bad(CaFault::UnsupportedKey(error.to_string())))
    }
}

/// Roots may be replaced by adding the new one first, so one that is over is left out as long as another is there.
fn valid_roots(
    roots: Vec<CertificateDer<'static>>,
    now: SystemTime,
) -> Result<(Vec<CertificateDer<'static>>, SystemTime), CaCertsError> {
    let mut end = None;
    let mut fault = no_certificate(ROOT_CERT);
    let mut valid = Vec::new();
    for root in roots {
        match check(ROOT_CERT, &root, now) {
            Ok(read) => {
                end = end.max(Some(read.not_after));
                valid.push(root);
            }
            Err(error) if matches!(error.fault, CaFault::Unreadable(_)) => return Err(error),
            Err(error) => fault = error,
        }
    }
    end.map(|end| (valid, end)).ok_or(fault)
}

/// Signs for nobody and verifies it: covers what no single check above does, such as path lengths and name constraints.
fn try_out(issuer: &Issuer, now: SystemTime) -> Result<(), String> {
    let identity = Identity::new(issuer.trust_domain().clone(), "trial", "trial").map_err(|error| error.to_string())?;
    let key = PrivateKey::generate().map_err(|error| error.to_string())?;
    let csr = key.request(&identity).map_err(|error| error.to_string())?;
    let request = SigningRequest { csr, identity: identity.clone(), lifetime: TRIAL_LIFETIME };
    let issued = issuer.sign(&request, now).map_err(|error| error.to_string())?;
    Credentials::accept(&identity, &key, issued, now).map(|_| ()).map_err(|error| error.to_string())
}

fn certificates(file: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CaCertsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(MAX_CERTIFICATES).collect();
    found.map_err(|error| unreadable(file, &error))
}

fn check(file: &'static str, certificate: &CertificateDer<'_>, now: SystemTime) -> Result<Certificate, CaCertsError> {
    let read = Certificate::read(certificate).map_err(|error| unreadable(file, &error))?;
    if now > read.not_after {
        return Err(CaCertsError { file, fault: CaFault::Expired(read.not_after) });
    }
    if now < read.not_before {
        return Err(CaCertsError { file, fault: CaFault::NotYetValid(read.not_before) });
    }
    Ok(read)
}

fn no_certificate(file: &'static str) -> CaCertsError {
    CaCertsError { file, fault: CaFault::NoCertificate }
}

fn unreadable(file: &'static str, reason: &dyn ToString) -> CaCertsError {
    CaCertsError { file, fault: CaFault::Unreadable(reason.to_string()) }
}
