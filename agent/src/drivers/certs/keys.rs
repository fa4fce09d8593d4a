//! Private keys, made on the node and kept in memory only, and the requests that they sign.

use std::fmt;
use std::sync::Arc;

use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{CertificateParams, DistinguishedName, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;
use thiserror::Error;
use zeroize::Zeroize;

use crate::model::identity::Identity;

/// The longest request that is read, in bytes.
const MAX_REQUEST: usize = 64 << 10;

/// An EC P-256 key. It has no way to a disk, a log or a `Debug` line; its encoding is overwritten when it is dropped.
pub struct PrivateKey(KeyPair);

/// A certificate signing request (PKCS#10).
#[derive(Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    der: Vec<u8>,
}

/// A key or a request that could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot make {what}: {reason}")]
pub struct KeyError {
    what: &'static str,
    reason: String,
}

impl PrivateKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Self, KeyError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        key.map(Self).map_err(|error| KeyError { what: "a private key", reason: error.to_string() })
    }

    /// Signs a request as Istio's agents do: SHA-256, no subject, `identity` as the only name, which is critical as
    /// there is no subject.
    ///
    /// # Errors
    /// When the library cannot sign.
    pub fn request(&self, identity: &Identity) -> Result<CertificateRequest, KeyError> {
        let failed = |error: rcgen::Error| KeyError { what: "a signing request", reason: error.to_string() };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into().map_err(failed)?)];
        let request = params.serialize_request(&self.0).map_err(failed)?;
        Ok(CertificateRequest { der: request.der().to_vec() })
    }

    /// Has `issuer` sign what `params` say about this key.
    pub(super) fn certify(
        &self,
        params: CertificateParams,
        issuer: &Issuer<'_, KeyPair>,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        Ok(params.signed_by(&self.0, issuer)?.der().clone())
    }

    /// The key in the form that the TLS library signs with.
    pub(super) fn signer(&self) -> Result<Arc<dyn SigningKey>, KeyError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialized_der()));
        any_ecdsa_type(&der).map_err(|error| KeyError { what: "a signer", reason: error.to_string() })
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl CertificateRequest {
    /// Takes a request from a peer. Nothing in it is believed: who signs checks it.
    ///
    /// # Errors
    /// [`KeyError`] when it is longer than any request that is meant well.
    pub fn from_der(der: Vec<u8>) -> Result<Self, KeyError> {
        if der.len() > MAX_REQUEST {
            return Err(not_a_request(format!("{} bytes are more than {MAX_REQUEST}", der.len())));
        }
        Ok(Self { der })
    }

    /// The same for a request in PEM.
    ///
    /// # Errors
    /// [`KeyError`] when it is too long, too, or no request in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        if pem.len() > 2 * MAX_REQUEST {
            return Err(not_a_request(format!("{} characters are more than twice {MAX_REQUEST}", pem.len())));
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes());
        Self::from_der(der.map_err(|error| not_a_request(error.to_string()))?.to_vec())
    }

    /// The request in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The request in PEM, `BEGIN CERTIFICATE REQUEST`.
    #[must_use]
    pub fn pem(&self) -> String {
        let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
        pem::encode_config(&Pem::new("CERTIFICATE REQUEST", self.der.as_slice()), config)
    }
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateRequest({} bytes)", self.der.len())
    }
}

fn not_a_request(reason: String) -> KeyError {
    KeyError { what: "a signing request of what was sent", reason }
}
