//! What the mesh reads from an X.509 certificate.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::asn1_rs::Tag;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

/// The tag of `uniformResourceIdentifier` in a `GeneralName` (RFC 5280, section 4.2.1.6).
const URI_TAG: Tag = Tag(6);

/// The parts of a certificate that rules of the mesh speak about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    /// The serial number in hexadecimal digits, without separators.
    pub(super) serial: String,
    /// The first second in which it is valid.
    pub(super) not_before: SystemTime,
    /// The last second in which it is valid.
    pub(super) not_after: SystemTime,
    /// All URI names. Other kinds of names are not identities and are not kept.
    pub(super) uris: Vec<String>,
    /// Whether it says that it is an authority's.
    pub(super) is_ca: bool,
    /// Whether its key may sign certificates; `None` if it does not say what its key is for.
    pub(super) signs_certificates: Option<bool>,
    /// Whether it says that its key may sign revocation lists.
    pub(super) signs_revocations: bool,
}

/// The bytes are no certificate, or one that says a thing twice.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not a well-formed X.509 certificate: {0}")]
pub(super) struct Malformed(String);

impl Certificate {
    /// Reads `der`.
    ///
    /// # Errors
    /// [`Malformed`] for anything but exactly one certificate, and for one with a name that cannot be read: what cannot
    /// be read could be a second identity.
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, Malformed> {
        let malformed = |reason: &dyn ToString| Malformed(reason.to_string());
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(malformed(&"bytes after its end"));
        }
        let mut uris = Vec::new();
        if let Some(names) = certificate.subject_alternative_name().map_err(|error| malformed(&error))? {
            for name in &names.value.general_names {
                match name {
                    GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                    GeneralName::Invalid(URI_TAG, _) => return Err(malformed(&"a URI name that is not text")),
                    GeneralName::Invalid(..) => {
                        return Err(malformed(&"a subject alternative name that cannot be read"));
                    }
                    GeneralName::OtherName(..)
                    | GeneralName::RFC822Name(_)
                    | GeneralName::DNSName(_)
                    | GeneralName::X400Address(_)
                    | GeneralName::DirectoryName(_)
                    | GeneralName::EDIPartyName(_)
                    | GeneralName::IPAddress(_)
                    | GeneralName::RegisteredID(_) => {}
                }
            }
        }
        let constraints = certificate.basic_constraints().map_err(|error| malformed(&error))?;
        let usage = certificate.key_usage().map_err(|error| malformed(&error))?;
        Ok(Self {
            serial: certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: system_time(certificate.validity().not_before),
            not_after: system_time(certificate.validity().not_after),
            uris,
            is_ca: constraints.is_some_and(|constraints| constraints.value.ca),
            signs_certificates: usage.as_ref().map(|usage| usage.value.key_cert_sign()),
            signs_revocations: usage.is_some_and(|usage| usage.value.crl_sign()),
        })
    }
}

/// Times before 1970 count as 1970: both are long past.
fn system_time(at: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or(0))
}
