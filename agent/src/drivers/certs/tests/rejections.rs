//! Every rule for a peer's certificate, broken one at a time, on real handshakes with a peer that has no rules of its
//! own.

use std::sync::Arc;

use rcgen::{BasicConstraints, IsCa};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::version::TLS13;
use rustls::{DigitallySignedStruct, DistinguishedName as SubjectName, Error, SignatureScheme};
use tokio::io::AsyncReadExt;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::drivers::certs::tls::config::{client_config, server_config};
use crate::drivers::certs::tls::handshake::{Fault, HandshakeError, accept, connect};
use crate::drivers::certs::verify::{CertificateFault, PeerRejected};

const DAY: Duration = Duration::from_hours(24);
const HOUR: Duration = Duration::from_hours(1);

/// Shows one certificate, or none, and accepts all.
#[derive(Debug)]
pub(super) struct Lawless(pub(super) Option<Arc<CertifiedKey>>);

impl Lawless {
    pub(super) fn client(self) -> TlsConnector {
        let lawless = Arc::new(self);
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Self>::clone(&lawless))
            .with_client_cert_resolver(lawless);
        TlsConnector::from(Arc::new(config))
    }

    pub(super) fn server(self) -> TlsAcceptor {
        let lawless = Arc::new(self);
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::<Self>::clone(&lawless))
            .with_cert_resolver(lawless);
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What our server says about a client that shows `certificate`.
async fn server_judges(
    make: impl FnOnce(&Mesh) -> Option<CertifiedKey>,
) -> Result<(Identity, Option<Vec<u8>>), HandshakeError> {
    with_mesh(DAY, async |mesh| {
        let server = server_config(&mesh.ready("server").await, &[b"h2"]);
        let client = Lawless(make(&mesh).map(Arc::new)).client();
        let (near, far) = pipe();
        let nobody = ServerName::try_from("nobody.test").unwrap();
        let client = async {
            let mut stream = client.connect(nobody, near).await?;
            // A refusal only shows when the client reads: its own part was done before.
            stream.read(&mut [0; 1]).await
        };
        let server = async { accept(far, &server, PATIENCE).await.map(|done| (done.peer, done.protocol)) };
        let (client, server) = tokio::join!(client, server);
        if server.is_err() {
            let refusal = client.unwrap_err();
            let refusal = refusal.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
            assert!(matches!(refusal, Some(Error::AlertReceived(_))), "the client is told: {refusal:?}");
        }
        server
    })
    .await
}

/// What our client says about a server that shows `certificate` where `expected` was called.
async fn client_judges(
    make: impl FnOnce(&Mesh) -> CertifiedKey,
    expected: &[Identity],
) -> Result<Identity, HandshakeError> {
    with_mesh(DAY, async |mesh| {
        let client = client_config(&mesh.ready("caller").await, expected.into(), &[]);
        let server = Lawless(Some(Arc::new(make(&mesh)))).server();
        let (near, far) = pipe();
        let server = async { server.accept(far).await.map(|_| ()) };
        let client = async { connect(near, &client, PATIENCE).await.map(|done| done.peer) };
        tokio::join!(client, server).0
    })
    .await
}

fn rejected(result: Result<impl std::fmt::Debug, HandshakeError>) -> PeerRejected {
    let error = result.unwrap_err();
    assert_eq!(error.fault(), Fault::Peer, "{error}");
    let HandshakeError::PeerRejected(rejected) = error else { panic!("{error:?}") };
    rejected
}

/// Checks both sides' judgement of the certificate that `make` spoils: same fault, and the claimed identity named.
async fn check(make: impl Fn(&Mesh) -> CertifiedKey, fault: CertificateFault, claimed: Option<&str>) {
    let by_server = rejected(server_judges(|mesh| Some(make(mesh))).await);
    let by_client = rejected(client_judges(&make, &[identity("client"), identity("server")]).await);
    for found in [by_server, by_client] {
        assert_eq!(found, PeerRejected { claimed: claimed.map(str::to_owned), fault: fault.clone() }, "{found}");
    }
}

const CLIENT: Option<&str> = Some("spiffe://cluster.local/ns/default/sa/client");

#[tokio::test(start_paused = true)]
async fn a_good_certificate_passes_and_proves_its_identity() {
    let (peer, protocol) = server_judges(|mesh| Some(mesh.leaf(|_| {}))).await.unwrap();
    assert_eq!((peer, protocol), (identity("client"), None));
    assert_eq!(client_judges(|mesh| mesh.leaf(|_| {}), &[identity("client")]).await.unwrap(), identity("client"));
}

#[tokio::test(start_paused = true)]
async fn names_beside_the_identity_are_allowed() {
    let with_dns = |mesh: &Mesh| {
        mesh.leaf(|params| params.subject_alt_names.push(SanType::DnsName("istiod.test".try_into().unwrap())))
    };
    assert_eq!(server_judges(|mesh| Some(with_dns(mesh))).await.unwrap().0, identity("client"));
    assert_eq!(client_judges(with_dns, &[identity("client")]).await.unwrap(), identity("client"));
}

#[tokio::test(start_paused = true)]
async fn no_certificate() {
    let error = server_judges(|_| None).await.unwrap_err();
    assert!(matches!(error, HandshakeError::NoCertificate), "{error:?}");
    assert_eq!(error.fault(), Fault::Peer);
}

#[tokio::test(start_paused = true)]
async fn expired() {
    let make = |mesh: &Mesh| {
        let now = mesh.clock.now();
        mesh.leaf(|params| {
            params.not_before = (now - 2 * HOUR).into();
            params.not_after = (now - HOUR).into();
        })
    };
    check(make, CertificateFault::Expired, CLIENT).await;
}

#[tokio::test(start_paused = true)]
async fn not_yet_valid() {
    let make = |mesh: &Mesh| {
        let now = mesh.clock.now();
        mesh.leaf(|params| {
            params.not_before = (now + HOUR).into();
            params.not_after = (now + 2 * HOUR).into();
        })
    };
    check(make, CertificateFault::NotYetValid, CLIENT).await;
}

#[tokio::test(start_paused = true)]
async fn another_root_even_with_the_same_name() {
    let make = |mesh: &Mesh| {
        let now = mesh.clock.now();
        leaf(&root(&TrustDomain::default(), now), now, |_| {})
    };
    check(make, CertificateFault::UnknownRoot, CLIENT).await;
    let make = |mesh: &Mesh| {
        let now = mesh.clock.now();
        leaf(&root(&TrustDomain::new("other.test").unwrap(), now), now, |_| {})
    };
    check(make, CertificateFault::UnknownRoot, CLIENT).await;
}

#[tokio::test(start_paused = true)]
async fn another_trust_domain() {
    let stranger = "spiffe://other.test/ns/default/sa/client";
    let make = |mesh: &Mesh| mesh.leaf(|params| params.subject_alt_names = vec![uri(stranger)]);
    let found = rejected(server_judges(|mesh| Some(make(mesh))).await);
    assert_eq!(found.fault, CertificateFault::TrustDomain(TrustDomain::default()));
    assert_eq!(found.claimed.as_deref(), Some(stranger));
    let found = rejected(client_judges(make, &[identity("client")]).await);
    assert!(matches!(found.fault, CertificateFault::Unexpected(_)), "{found}");
}

#[tokio::test(start_paused = true)]
async fn another_workload_than_expected() {
    for expected in [vec![], vec![identity("server")], vec![identity("server"), identity("other")]] {
        let found = rejected(client_judges(|mesh| mesh.leaf(|_| {}), &expected).await);
        assert!(matches!(found.fault, CertificateFault::Unexpected(_)), "{found}");
        assert_eq!(found.claimed.as_deref(), CLIENT);
    }
}

#[tokio::test(start_paused = true)]
async fn two_uris() {
    let both = |mesh: &Mesh| {
        let second = uri(&identity("server").to_string());
        mesh.leaf(|params| params.subject_alt_names.push(second))
    };
    check(both, CertificateFault::UriCount(2), CLIENT).await;
    let same = |mesh: &Mesh| mesh.leaf(|params| params.subject_alt_names.push(uri(CLIENT.unwrap())));
    check(same, CertificateFault::UriCount(2), CLIENT).await;
}

#[tokio::test(start_paused = true)]
async fn no_uri() {
    check(|mesh| mesh.leaf(|params| params.subject_alt_names.clear()), CertificateFault::UriCount(0), None).await;
    let dns = |mesh: &Mesh| {
        mesh.leaf(|params| params.subject_alt_names = vec![SanType::DnsName("client.test".try_into().unwrap())])
    };
    check(dns, CertificateFault::UriCount(0), None).await;
}

#[tokio::test(start_paused = true)]
async fn a_uri_that_is_no_identity_is_shown_shortened_and_escaped() {
    let long = format!("https://{}\u{1b}[31m{}", "a".repeat(20), "b".repeat(500));
    let make = |mesh: &Mesh| mesh.leaf(|params| params.subject_alt_names = vec![uri(&long)]);
    let found = rejected(server_judges(|mesh| Some(make(mesh))).await);
    assert!(matches!(found.fault, CertificateFault::NotAnIdentity(_)), "{found}");
    let shown = found.to_string();
    assert!(shown.len() < 500 && !shown.contains('\u{1b}'), "{shown:?}");
}

#[tokio::test(start_paused = true)]
async fn an_authority_as_a_leaf() {
    let ca = |mesh: &Mesh| mesh.leaf(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    check(ca, CertificateFault::AuthorityAsLeaf, CLIENT).await;
    let signing = |mesh: &Mesh| mesh.leaf(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign));
    check(signing, CertificateFault::AuthorityAsLeaf, CLIENT).await;
}

#[tokio::test(start_paused = true)]
async fn the_wrong_side_of_tls() {
    let only = |usage: ExtendedKeyUsagePurpose| {
        move |mesh: &Mesh| mesh.leaf(|params| params.extended_key_usages = vec![usage])
    };
    let found = rejected(server_judges(|mesh| Some(only(ExtendedKeyUsagePurpose::ServerAuth)(mesh))).await);
    assert_eq!(found.fault, CertificateFault::Purpose("client"));
    let found = rejected(client_judges(only(ExtendedKeyUsagePurpose::ClientAuth), &[identity("client")]).await);
    assert_eq!(found.fault, CertificateFault::Purpose("server"));
}

#[tokio::test(start_paused = true)]
async fn a_leaf_signed_by_a_leaf() {
    let make = |mesh: &Mesh| {
        // The outer leaf is good, so its owner has a key that must not be able to sign.
        let outer = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "outer");
        params.subject_alt_names = vec![uri(CLIENT.unwrap())];
        let signer = KeyPair::from_pem(&mesh.root.files.key).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&mesh.root.files.certificate, signer).unwrap();
        let certificate = params.signed_by(&outer, &issuer).unwrap();
        let outer = SelfSigned { certificate: certificate.pem(), key: outer.serialize_pem().into() };
        let issuer =
            rcgen::Issuer::from_ca_cert_pem(&outer.certificate, KeyPair::from_pem(&outer.key).unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri(&identity("server").to_string())];
        let inner = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        CertifiedKey::from_der(vec![inner.der().clone(), der(&outer.certificate)], key, &provider()).unwrap()
    };
    let found = rejected(server_judges(|mesh| Some(make(mesh))).await);
    assert!(matches!(found.fault, CertificateFault::Unverifiable(_)), "{found}");
    assert!(client_judges(make, &[identity("server")]).await.is_err());
}

impl ServerCertVerifier for Lawless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Lawless {
    fn root_hint_subjects(&self) -> &[SubjectName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesServerCert for Lawless {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

impl ResolvesClientCert for Lawless {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}
