//! What signs certificates, seen from the node: a trait that a local CA and the control plane's client both fulfil.

use std::time::Duration;

use futures_util::future::BoxFuture;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;

use super::ca::hierarchy::pem_of;
use super::keys::CertificateRequest;
use crate::model::identity::Identity;

/// The most certificates that are taken from one answer; real chains have fewer than ten.
const MAX_CERTIFICATES: usize = 100;

/// Asks for one certificate.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    /// The request that the key signed. Its only name is `identity`.
    pub csr: CertificateRequest,
    /// Whom the certificate is for.
    pub identity: Identity,
    /// For how long from now it is wanted. The authority may grant less.
    pub lifetime: Duration,
}

/// What the authority answers.
#[derive(Clone, Debug)]
pub struct IssuedChain {
    /// DER; the leaf first, then the intermediates that lead to a root. No root.
    pub chain: Vec<Vec<u8>>,
    /// DER; the roots that every peer of the mesh is checked against.
    pub roots: Vec<Vec<u8>>,
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuthorityError {
    /// The authority looked at the request and said no. Asking again helps only after something was changed.
    #[error("the authority refuses: {0}")]
    Refused(String),
    /// The authority could not be asked or cannot sign.
    #[error("the authority is not available: {0}")]
    Unavailable(String),
    /// The answer cannot be used.
    #[error("the authority's answer cannot be used: {0}")]
    BadAnswer(String),
}

/// Signs certificates. Dropping the future gives up the request.
pub trait Authority: Send + Sync {
    /// Signs a certificate for `request.identity`.
    fn sign(&self, request: SigningRequest) -> BoxFuture<'_, Result<IssuedChain, AuthorityError>>;
}

impl IssuedChain {
    /// Takes an answer in PEM apart: `chain` is the leaf and its intermediates, `roots` one or more root certificates.
    ///
    /// # Errors
    /// [`AuthorityError::BadAnswer`] when a text is not PEM, holds no certificate, or holds more than any real chain.
    pub fn from_pem(chain: &str, roots: &str) -> Result<Self, AuthorityError> {
        Ok(Self { chain: certificates("certificate chain", chain)?, roots: certificates("roots", roots)? })
    }

    /// Takes the answer of Istio's certificate service: the leaf, the intermediates, and as the last text all roots.
    ///
    /// # Errors
    /// [`AuthorityError::BadAnswer`] when there is no leaf, no root, or something that is no certificate.
    pub fn from_texts(texts: &[String]) -> Result<Self, AuthorityError> {
        let Some((roots, chain @ [_, ..])) = texts.split_last() else {
            let reason = format!("{} texts where a chain and its roots have two at least", texts.len());
            return Err(AuthorityError::BadAnswer(reason));
        };
        Self::from_pem(&chain.join("\n"), roots)
    }

    /// The same answer, to be sent.
    #[must_use]
    pub fn to_texts(&self) -> Vec<String> {
        let roots = self.roots.iter().map(|der| pem_of(der)).collect();
        self.chain.iter().map(|der| pem_of(der)).chain([roots]).collect()
    }
}

fn certificates(what: &str, pem: &str) -> Result<Vec<Vec<u8>>, AuthorityError> {
    let bad = |reason: String| AuthorityError::BadAnswer(format!("{what}: {reason}"));
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        found.push(certificate.map_err(|error| bad(error.to_string()))?.to_vec());
        if found.len() > MAX_CERTIFICATES {
            return Err(bad(format!("more than {MAX_CERTIFICATES} certificates")));
        }
    }
    if found.is_empty() { Err(bad("no certificate in it".to_owned())) } else { Ok(found) }
}
