//! A mesh in memory: an authority whose answers the test decides, a clock that follows tokio's, and handshakes over a
//! pipe.

mod cacerts;
mod handshakes;
mod records;
mod rejections;
mod rotation;
mod signing;

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

use super::authority::{Authority, AuthorityError, IssuedChain, SigningRequest};
use super::ca::cacerts::CaCerts;
use super::ca::issuer::{Issuer, SelfSigned};
use super::certificate::Certificate;
use super::clock::Clock;
use super::provider::provider;
use super::store::{CertificateStore, IdentityHandle, StoreConfig};
use super::tls::handshake::Established;
use super::tls::records::RecordStream;
use crate::model::identity::{Identity, TrustDomain};

/// Longer than anything takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(5);

/// A root, its key and what is derived from them.
struct Root {
    files: SelfSigned,
    issuer: Issuer,
}

/// What the authority does when it is asked.
#[derive(Clone)]
enum Behaviour {
    Sign(Arc<Root>),
    Fail,
    Hang,
    /// Signs for another key or identity than asked.
    Answer(IssuedChain),
}

struct ScriptedAuthority {
    behaviour: Mutex<Behaviour>,
    asked: AtomicUsize,
    clock: Clock,
}

impl ScriptedAuthority {
    fn now_does(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn times_asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Authority for ScriptedAuthority {
    fn sign(&self, request: SigningRequest) -> BoxFuture<'_, Result<IssuedChain, AuthorityError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let behaviour = self.behaviour.lock().unwrap().clone();
        Box::pin(async move {
            // As over a network: others run before the answer is there.
            tokio::task::yield_now().await;
            match behaviour {
                Behaviour::Sign(root) => root.issuer.sign(&request, self.clock.now()),
                Behaviour::Fail => Err(AuthorityError::Unavailable("scripted failure".to_owned())),
                Behaviour::Hang => std::future::pending().await,
                Behaviour::Answer(issued) => Ok(issued),
            }
        })
    }
}

/// One mesh with one store. Tests run with tokio's clock paused, so lifetimes of hours pass at once.
struct Mesh {
    clock: Clock,
    root: Arc<Root>,
    authority: Arc<ScriptedAuthority>,
    store: CertificateStore,
}

/// Runs `test` with a mesh whose certificates live for `lifetime`.
async fn with_mesh<T, F: Future<Output = T>>(lifetime: Duration, test: impl FnOnce(Mesh) -> F) -> T {
    let clock = paused_clock();
    let root = Arc::new(root(&TrustDomain::default(), clock.now()));
    let authority = Arc::new(ScriptedAuthority {
        behaviour: Mutex::new(Behaviour::Sign(Arc::clone(&root))),
        asked: AtomicUsize::new(0),
        clock: clock.clone(),
    });
    let config = StoreConfig { lifetime, fetch_timeout: Duration::from_secs(20), clock: clock.clone() };
    let (store, renewals) = CertificateStore::new(Arc::<ScriptedAuthority>::clone(&authority), config);
    let test = test(Mesh { clock, root, authority, store });
    // The store ends by itself when the test drops it; the test goes on then.
    let (result, ()) = tokio::join!(test, renewals);
    result
}

impl Mesh {
    async fn ready(&self, service_account: &str) -> IdentityHandle {
        let handle = self.store.hold(&identity(service_account));
        handle.wait_ready(PATIENCE).await.expect("the authority signs");
        handle
    }

    /// A certificate that `edit` may spoil, from this mesh's root.
    fn leaf(&self, edit: impl FnOnce(&mut CertificateParams)) -> CertifiedKey {
        leaf(&self.root, self.clock.now(), edit)
    }
}

fn identity(service_account: &str) -> Identity {
    Identity::new(TrustDomain::default(), "default", service_account).unwrap()
}

/// Follows tokio's clock from the real time of now on.
fn paused_clock() -> Clock {
    let (wall, start) = (SystemTime::now(), Instant::now());
    Clock::new(move || wall + start.elapsed())
}

fn root(trust_domain: &TrustDomain, now: SystemTime) -> Root {
    let files = SelfSigned::create(trust_domain, now).unwrap();
    let issuer = cacerts(&files).issuer(trust_domain, now).unwrap();
    Root { files, issuer }
}

fn cacerts(files: &SelfSigned) -> CaCerts {
    CaCerts {
        root_cert: files.certificate.clone().into_bytes(),
        ca_cert: files.certificate.clone().into_bytes(),
        ca_key: files.key.as_bytes().to_vec().into(),
        cert_chain: Vec::new(),
    }
}

fn leaf(root: &Root, now: SystemTime, edit: impl FnOnce(&mut CertificateParams)) -> CertifiedKey {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(&identity("client").to_string())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = (now - Duration::from_secs(60)).into();
    params.not_after = (now + Duration::from_secs(60)).into();
    edit(&mut params);
    let signer = KeyPair::from_pem(&root.files.key).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&root.files.certificate, signer).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    CertifiedKey::from_der(vec![certificate.der().clone()], key, &provider()).unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn pipe() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(64 << 10)
}

/// One end of a connection.
struct End {
    stream: RecordStream<DuplexStream>,
    /// The peer's certificate.
    certificate: Vec<u8>,
}

impl End {
    /// The serial number of the certificate that the peer showed.
    fn serial_of_peer(&self) -> String {
        Certificate::read(&self.certificate.clone().into()).unwrap().serial
    }

    async fn send(&mut self, text: &[u8]) {
        self.stream.write_all(text).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn receive(&mut self, expected: &[u8]) {
        let mut received = vec![0; expected.len()];
        self.stream.read_exact(&mut received).await.unwrap();
        assert!(received == expected);
    }
}

impl From<Established<DuplexStream>> for End {
    fn from(established: Established<DuplexStream>) -> Self {
        Self { stream: established.connection.into(), certificate: established.certificate }
    }
}

/// Both ends of a handshake that must succeed.
async fn connected<IO>(
    client: impl Future<Output = Result<Established<IO>, impl std::fmt::Debug>>,
    server: impl Future<Output = Result<Established<IO>, impl std::fmt::Debug>>,
) -> (Established<IO>, Established<IO>) {
    let (client, server) = tokio::join!(client, server);
    (client.map_err(|error| format!("{error:?}")).unwrap(), server.map_err(|error| format!("{error:?}")).unwrap())
}
