//! The certificate that an authority's own server shows: DNS names, signed by the authority itself, replaced while it serves.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::issuer::{Issuer, IssuerError, random_serial, whole_seconds};
use crate::drivers::certs::keys::PrivateKey;

/// What a server shows at the moment; empty until the first certificate was issued. Clones are the same.
#[derive(Clone, Default)]
pub struct ServingCertificate(Arc<Slot>);

#[derive(Default)]
struct Slot(RwLock<Option<Current>>);

struct Current {
    key: Arc<CertifiedKey>,
    renew_at: SystemTime,
}

impl ServingCertificate {
    /// Nothing to show yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is none, or half of its life is over at `now`.
    #[must_use]
    pub fn is_due(&self, now: SystemTime) -> bool {
        self.0.0.read().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(|current| now >= current.renew_at)
    }

    /// Makes a key and has `issuer` certify it for `names`; handshakes that start from now on show it.
    ///
    /// # Errors
    /// When a name is no DNS name, or the library cannot sign.
    pub fn renew(
        &self,
        issuer: &Issuer,
        names: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(), IssuerError> {
        let failed = |error: &dyn ToString| IssuerError::new("the server's certificate", error.to_string());
        let key = PrivateKey::generate().map_err(|error| failed(&error))?;
        let mut params = CertificateParams::default();
        params.serial_number = Some(random_serial()?);
        params.distinguished_name = DistinguishedName::new();
        for name in names {
            params
                .subject_alt_names
                .push(SanType::DnsName(name.as_str().try_into().map_err(|e: rcgen::Error| failed(&e))?));
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let end = (now + lifetime).min(issuer.not_after());
        params.not_before = whole_seconds(now - lifetime.min(Duration::from_secs(120)));
        params.not_after = whole_seconds(end);
        let chain = issuer.certify(params, &key)?;
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let certified = CertifiedKey::new(chain, key.signer().map_err(|error| failed(&error))?);
        let renew_at = now + end.duration_since(now).unwrap_or_default() / 2;
        *self.0.0.write().unwrap_or_else(PoisonError::into_inner) =
            Some(Current { key: Arc::new(certified), renew_at });
        Ok(())
    }

    /// For the TLS library.
    pub(in crate::drivers::certs) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::<Slot>::clone(&self.0)
    }
}

impl ResolvesServerCert for Slot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|current| Arc::clone(&current.key))
    }
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServingCertificate")
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}
