//! A certificate authority's key, and what it signs. Where its files lie and who may ask is not decided here.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber,
};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::drivers::certs::authority::{AuthorityError, IssuedChain, SigningRequest};
use crate::drivers::certs::keys::PrivateKey;
use crate::drivers::certs::provider::provider;
use crate::model::identity::{Identity, TrustDomain};

/// How far a leaf's start is set back for nodes whose clocks are behind, unless the leaf lives shorter than that.
/// Istio's value.
const CLOCK_SKEW: Duration = Duration::from_secs(120);

/// How long a root that is made here lives: ten years.
const ROOT_LIFETIME: Duration = Duration::from_hours(24 * 3652);

/// The bytes of an uncompressed P-256 point.
const P256_POINT: usize = 65;

/// A key that may sign for one trust domain, with what its leaves are sent together with.
pub struct Issuer {
    signer: rcgen::Issuer<'static, KeyPair>,
    trust_domain: TrustDomain,
    /// What follows the leaf: the issuer's own certificate and those above it, without roots.
    intermediates: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    /// The time when the first certificate of the chain above the leaves ends.
    not_after: SystemTime,
}

/// The library could not make what was asked. Nothing in a request leads here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot make {what}: {reason}")]
pub struct IssuerError {
    what: &'static str,
    reason: String,
}

impl IssuerError {
    pub(super) fn new(what: &'static str, reason: String) -> Self {
        Self { what, reason }
    }
}

/// A self-signed authority as it is kept: both texts are PEM.
pub struct SelfSigned {
    /// The certificate, which is its own root.
    pub certificate: String,
    /// The private key, PKCS#8.
    pub key: Zeroizing<String>,
}

/// The certificates around an authority's key.
pub(super) struct AuthorityChain {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) not_after: SystemTime,
}

impl SelfSigned {
    /// Makes an authority for `trust_domain` that signs leaves and no other authorities, valid from an hour before
    /// `now`, for nodes whose clocks are behind, for ten years.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn create(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, IssuerError> {
        let failed = |error: rcgen::Error| IssuerError { what: "an authority", reason: error.to_string() };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.serial_number = Some(random_serial()?);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain.as_str());
        params.distinguished_name.push(DnType::CommonName, "sotto root");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - Duration::from_hours(1)).into();
        params.not_after = (now + ROOT_LIFETIME).into();
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self { certificate: certificate.pem(), key: Zeroizing::new(key.serialize_pem()) })
    }
}

/// The subject is written into every leaf as its issuer, and the library panics when it has to write an object identifier that
/// does not exist (X.660: the first arc is 0, 1 or 2, the second below 40 unless the first is 2).
fn check_subject(certificate: &CertificateDer<'_>) -> Result<(), IssuerError> {
    let error = |reason: String| IssuerError { what: "an issuer of this certificate", reason };
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| error(e.to_string()))?;
    for attribute in parsed.subject().iter_attributes() {
        let mut arcs = attribute.attr_type().iter().into_iter().flatten();
        let exists = match (arcs.next(), arcs.next()) {
            (Some(first), Some(second)) => first == 2 || first < 2 && second < 40,
            _ => false,
        };
        if !exists {
            return Err(error(format!("{} in its subject is no object identifier", attribute.attr_type())));
        }
    }
    Ok(())
}

impl Issuer {
    /// Puts an issuer together from parts that were checked.
    pub(super) fn new(chain: AuthorityChain, key: KeyPair, trust_domain: TrustDomain) -> Result<Self, IssuerError> {
        check_subject(&chain.certificate)?;
        let signer = rcgen::Issuer::from_ca_cert_der(&chain.certificate, key)
            .map_err(|error| IssuerError { what: "an issuer of this certificate", reason: error.to_string() })?;
        let AuthorityChain { intermediates, roots, not_after, .. } = chain;
        Ok(Self { signer, trust_domain, intermediates, roots, not_after })
    }

    /// The trust domain that it signs for.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// When the authority itself ends. No leaf lives longer.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Signs a certificate for `request.identity`, for TLS as client and server.
    ///
    /// Only the key is taken from the request; every other field of the certificate is set here.
    ///
    /// # Errors
    /// [`AuthorityError::Refused`] when the identity is of another trust domain, or the CSR is not signed by its key,
    /// asks for anything but this identity as its only name, or has a key that is not P-256.
    /// [`AuthorityError::Unavailable`] when the authority has expired.
    pub fn sign(&self, request: &SigningRequest, now: SystemTime) -> Result<IssuedChain, AuthorityError> {
        let identity = &request.identity;
        if *identity.trust_domain() != self.trust_domain {
            let reason = format!("{identity} is not of the trust domain {}", self.trust_domain);
            return Err(AuthorityError::Refused(reason));
        }
        if now >= self.not_after {
            let end = humantime::format_rfc3339_seconds(self.not_after);
            return Err(AuthorityError::Unavailable(format!("its own certificate expired at {end}; renew it")));
        }
        let csr = CertificateSigningRequestParams::from_der(&request.csr.der().into())
            .map_err(|error| AuthorityError::Refused(format!("the signing request is not valid: {error}")))?;
        check_csr(&csr, identity).map_err(|reason| AuthorityError::Refused(reason.to_owned()))?;
        let unavailable = |reason: &dyn ToString| AuthorityError::Unavailable(reason.to_string());
        let mut leaf = CertificateParams::default();
        leaf.serial_number = Some(random_serial().map_err(|error| unavailable(&error))?);
        leaf.distinguished_name = DistinguishedName::new();
        // rcgen marks the name as critical, since there is no subject (RFC 5280, section 4.1.2.6).
        leaf.subject_alt_names =
            vec![SanType::URI(identity.to_string().try_into().map_err(|error: rcgen::Error| unavailable(&error))?)];
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        leaf.not_before = whole_seconds(now - CLOCK_SKEW.min(request.lifetime));
        leaf.not_after =
            whole_seconds(now.checked_add(request.lifetime).map_or(self.not_after, |end| end.min(self.not_after)));
        let leaf = leaf.signed_by(&csr.public_key, &self.signer).map_err(|error| unavailable(&error))?;
        let der = |certificate: &CertificateDer<'_>| certificate.to_vec();
        Ok(IssuedChain {
            chain: std::iter::once(leaf.der()).chain(&self.intermediates).map(der).collect(),
            roots: self.roots.iter().map(der).collect(),
        })
    }

    /// Signs whatever `params` say about `key`. The caller has decided that it may be signed.
    pub(super) fn certify(&self, params: CertificateParams, key: &PrivateKey) -> Result<Vec<Vec<u8>>, IssuerError> {
        let leaf = key.certify(params, &self.signer).map_err(|e| IssuerError::new("a certificate", e.to_string()))?;
        Ok(std::iter::once(leaf.to_vec()).chain(self.intermediates.iter().map(|der| der.to_vec())).collect())
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({})", self.trust_domain)
    }
}

impl fmt::Debug for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SelfSigned(..)")
    }
}

/// The library has checked the request's signature by then.
fn check_csr(csr: &CertificateSigningRequestParams, identity: &Identity) -> Result<(), &'static str> {
    let [SanType::URI(name)] = csr.params.subject_alt_names.as_slice() else {
        return Err("the signing request must have exactly one name, a URI");
    };
    if name.as_str() != identity.to_string() {
        return Err("the signing request names another identity than the one that was asked for");
    }
    if matches!(csr.params.is_ca, IsCa::Ca(_)) {
        return Err("the signing request asks for an authority's certificate");
    }
    if *csr.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 || csr.public_key.der_bytes().len() != P256_POINT {
        return Err("the signing request's key must be EC P-256, signed with SHA-256");
    }
    Ok(())
}

/// 127 random bits: unique, positive and within the 20 bytes of RFC 5280, section 4.1.2.2.
pub(super) fn random_serial() -> Result<SerialNumber, IssuerError> {
    let mut bytes = [0; 16];
    provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| IssuerError { what: "a serial number", reason: "the system gives no random bytes".to_owned() })?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Certificates count in seconds.
pub(super) fn whole_seconds(at: SystemTime) -> OffsetDateTime {
    let at = OffsetDateTime::from(at);
    at.replace_nanosecond(0).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_with_an_object_identifier_that_does_not_exist_is_an_error() {
        let own = SelfSigned::create(&TrustDomain::default(), SystemTime::now()).unwrap();
        let mut der = pem::parse(&own.certificate).unwrap().into_contents();
        // id-at-commonName, 2.5.4.3, with another first octet.
        let common_name = [0x06, 0x03, 0x55, 0x04, 0x03];
        let places: Vec<_> = (0..der.len() - 4).filter(|&at| der[at..].starts_with(&common_name)).collect();
        assert_eq!(places.len(), 2, "issuer and subject");
        for at in places {
            der[at + 2] = 0x81;
        }
        let error = check_subject(&CertificateDer::from(der)).unwrap_err().to_string();
        assert!(error.contains("is no object identifier"), "{error}");
    }
}
