//! One handshake's side of the TLS library: hands out our certificate, judges the peer's and remembers the verdict.
//!
//! Made anew for each handshake, so that a verdict never belongs to another connection and roots and certificate are of
//! one issue. [`Session::finish`] takes everything back: an open connection does not keep a key alive.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible, SignatureScheme,
};

use crate::drivers::certs::credentials::Credentials;
use crate::drivers::certs::provider::provider;
use crate::drivers::certs::verify::{Chain, Expected, PeerRejected, Side};
use crate::model::identity::Identity;

/// What one handshake needs and finds out.
#[derive(Debug)]
pub(super) struct Session {
    expected: Expected,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    credentials: Option<Arc<Credentials>>,
    verdict: Option<Result<Identity, PeerRejected>>,
}

impl Session {
    pub(super) fn new(credentials: Arc<Credentials>, expected: Expected) -> Arc<Self> {
        Arc::new(Self { expected, state: Mutex::new(State { credentials: Some(credentials), verdict: None }) })
    }

    /// Ends the handshake: lets the credentials go and returns what was found about the peer, if it came that far.
    pub(super) fn finish(&self) -> Option<Result<Identity, PeerRejected>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.credentials = None;
        state.verdict.take()
    }

    fn credentials(&self) -> Option<Arc<Credentials>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).credentials.clone()
    }

    fn judge(&self, chain: Chain<'_>, side: Side, now: UnixTime) -> Result<(), Error> {
        let credentials = self.credentials().ok_or(Error::HandshakeNotComplete)?;
        let (verdict, result) = match credentials.roots().verify(chain, side, &self.expected, now) {
            Ok(identity) => (Ok(identity), Ok(())),
            Err((rejected, error)) => {
                let error = error.unwrap_or_else(|| {
                    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(rejected.clone()))))
                });
                (Err(rejected), Err(error))
            }
        };
        self.state.lock().unwrap_or_else(PoisonError::into_inner).verdict = Some(verdict);
        result
    }
}

impl ClientCertVerifier for Session {
    /// None are named: clients of a mesh have one certificate, and the names would only make the handshake longer.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(Chain { leaf, intermediates }, Side::Client, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Session {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(Chain { leaf, intermediates }, Side::Server, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesServerCert for Session {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.credentials().map(|credentials| credentials.key())
    }
}

impl ResolvesClientCert for Session {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.credentials().map(|credentials| credentials.key())
    }

    fn has_certs(&self) -> bool {
        self.credentials().is_some()
    }
}

fn only_tls13() -> Error {
    Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13)
}
