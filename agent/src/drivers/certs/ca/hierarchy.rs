//! Certificates above those of workloads: a root, and the intermediate that signs under it.
//!
//! The root signs nothing but intermediates, so that the key which is at work may be replaced without telling anybody.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;
use zeroize::Zeroizing;

use super::issuer::{IssuerError, random_serial, whole_seconds};
use crate::drivers::certs::certificate::Certificate;
use crate::drivers::certs::verify::TrustRoots;
use crate::model::identity::TrustDomain;

/// How far the start of an authority's certificate is set back, for nodes whose clocks are behind.
const BACKDATED: Duration = Duration::from_hours(1);

/// The most certificates in one bundle.
const MAX_CERTIFICATES: usize = 100;

/// A certificate of an authority with its key, both PEM.
#[derive(Clone)]
pub struct Authority {
    /// The certificate.
    pub certificate: String,
    /// Its private key, PKCS#8. Overwritten in memory when dropped.
    pub key: Zeroizing<String>,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: SystemTime,
    /// The last second.
    pub not_after: SystemTime,
}

/// A text that does not hold the certificates that it should.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct UnreadableCertificate(String);

impl Authority {
    /// Makes a root for `trust_domain`, valid for `lifetime` from `now`.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn root(trust_domain: &TrustDomain, lifetime: Duration, now: SystemTime) -> Result<Self, IssuerError> {
        let key = new_key()?;
        let params = params(trust_domain, "root", 1, (now, lifetime))?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self { certificate: certificate.pem(), key: Zeroizing::new(key.serialize_pem()) })
    }

    /// Makes an intermediate under this root. It ends with the root at the latest.
    ///
    /// # Errors
    /// When this is no authority, or the system gives no random bytes.
    pub fn intermediate(
        &self,
        trust_domain: &TrustDomain,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Self, IssuerError> {
        let own_key = KeyPair::from_pem(&self.key).map_err(failed)?;
        let signer = rcgen::Issuer::from_ca_cert_pem(&self.certificate, own_key).map_err(failed)?;
        let end = self.validity().map_err(|error| IssuerError::new("an intermediate", error.to_string()))?.not_after;
        let key = new_key()?;
        let mut params = params(trust_domain, "intermediate", 0, (now, lifetime))?;
        params.use_authority_key_identifier_extension = true;
        params.not_after = params.not_after.min(end.into());
        let certificate = params.signed_by(&key, &signer).map_err(failed)?;
        Ok(Self { certificate: certificate.pem(), key: Zeroizing::new(key.serialize_pem()) })
    }

    /// When the certificate is valid.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn validity(&self) -> Result<Validity, UnreadableCertificate> {
        validity(&self.certificate)
    }
}

/// When the first certificate of `pem` is valid.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn validity(pem: &str) -> Result<Validity, UnreadableCertificate> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unreadable(&error))?;
    let read = Certificate::read(&der).map_err(|error| unreadable(&error))?;
    Ok(Validity { not_before: read.not_before, not_after: read.not_after })
}

/// The certificates of a text, each in PEM of its own and in one form: equal certificates are equal texts.
///
/// # Errors
/// When the text holds something else, or none.
pub fn split(pem: &str) -> Result<Vec<String>, UnreadableCertificate> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).take(MAX_CERTIFICATES).collect();
    let read = read.map_err(|error| unreadable(&error))?;
    if read.is_empty() { Err(unreadable(&"no certificate")) } else { Ok(read.iter().map(|der| pem_of(der)).collect()) }
}

/// The certificates of several texts in one, each once, in the order of their first appearance.
///
/// # Errors
/// When a text holds something that cannot be a root, or far too many.
pub fn bundle<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<String, UnreadableCertificate> {
    let mut roots: Vec<CertificateDer<'static>> = Vec::new();
    for text in texts {
        for root in CertificateDer::pem_slice_iter(text.as_bytes()) {
            let root = root.map_err(|error| unreadable(&error))?;
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
    }
    if roots.is_empty() || roots.len() > MAX_CERTIFICATES {
        return Err(unreadable(&format!(
            "{} certificates; a bundle of roots has 1 to {MAX_CERTIFICATES}",
            roots.len()
        )));
    }
    TrustRoots::new(&roots).map_err(|error| unreadable(&error))?;
    Ok(roots.iter().map(|root| pem_of(root)).collect())
}

/// A certificate as PEM.
pub(in crate::drivers::certs) fn pem_of(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der), config)
}

fn params(
    trust_domain: &TrustDomain,
    role: &str,
    below: u8,
    (now, lifetime): (SystemTime, Duration),
) -> Result<CertificateParams, IssuerError> {
    let serial = random_serial()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, trust_domain.as_str());
    // Each has a name of its own: a verifier finds an issuer by its name first.
    let unique: String = serial.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("sotto {role} {unique}"));
    params.serial_number = Some(serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = whole_seconds(now - BACKDATED);
    params.not_after = whole_seconds(now + lifetime);
    Ok(params)
}

fn new_key() -> Result<KeyPair, IssuerError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)
}

fn failed(error: rcgen::Error) -> IssuerError {
    IssuerError::new("an authority", error.to_string())
}

fn unreadable(error: &dyn ToString) -> UnreadableCertificate {
    UnreadableCertificate(error.to_string())
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(..)")
    }
}
