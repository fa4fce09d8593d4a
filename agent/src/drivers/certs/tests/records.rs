//! Our record layer against the library's own, key after key, and against peers that break the rules.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsStream;

use super::rejections::Lawless;
use super::*;
use crate::drivers::certs::tls::config::{client_config, server_config};
use crate::drivers::certs::tls::handshake::{Fault, HandshakeError, accept, connect};

const DAY: Duration = Duration::from_hours(24);

/// Our end and the library's, as client and server or the other way round.
async fn beside_the_library(mesh: &Mesh, ours_serves: bool, pipe: (DuplexStream, DuplexStream)) -> (End, Library) {
    let lawless = Lawless(Some(Arc::new(mesh.leaf(|_| ()))));
    let handle = mesh.ready("server").await;
    let (near, far) = pipe;
    if ours_serves {
        let config = server_config(&handle, &[]);
        let name = rustls::pki_types::ServerName::try_from("nobody.test").unwrap();
        let (theirs, ours) = tokio::join!(lawless.client().connect(name, near), accept(far, &config, PATIENCE));
        (ours.unwrap().into(), Library(theirs.unwrap().into()))
    } else {
        let config = client_config(&handle, Arc::new([identity("client")]), &[]);
        let (ours, theirs) = tokio::join!(connect(near, &config, PATIENCE), lawless.server().accept(far));
        (ours.unwrap().into(), Library(theirs.unwrap().into()))
    }
}

struct Library(TlsStream<DuplexStream>);

impl Library {
    async fn send(&mut self, text: &[u8]) {
        self.0.write_all(text).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn receive(&mut self, expected: &[u8]) {
        let mut received = vec![0; expected.len()];
        self.0.read_exact(&mut received).await.unwrap();
        assert!(received == expected);
    }

    fn new_key(&mut self) {
        match &mut self.0 {
            TlsStream::Client(client) => client.get_mut().1.refresh_traffic_keys().unwrap(),
            TlsStream::Server(server) => server.get_mut().1.refresh_traffic_keys().unwrap(),
        }
    }
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|number| (number % 251) as u8).collect()
}

#[tokio::test(start_paused = true)]
async fn any_amount_crosses_in_either_role_while_keys_are_replaced() {
    with_mesh(DAY, async |mesh| {
        for ours_serves in [true, false] {
            let (mut ours, mut theirs) = beside_the_library(&mesh, ours_serves, tokio::io::duplex(7000)).await;
            ours.stream.replace_keys_after(3);
            for length in [1, 100, 16_384, 16_385, 1, 131_072, 400_000, 3] {
                let text = text(length);
                tokio::join!(ours.send(&text), theirs.receive(&text));
                theirs.new_key();
                tokio::join!(theirs.send(&text), ours.receive(&text));
                // Both directions at once.
                tokio::join!(
                    async {
                        ours.send(&text).await;
                        ours.receive(&text).await;
                    },
                    async {
                        theirs.receive(&text).await;
                        theirs.send(&text).await;
                    }
                );
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_from_a_break() {
    with_mesh(DAY, async |mesh| {
        let (mut ours, mut theirs) = beside_the_library(&mesh, true, pipe()).await;
        theirs.send(b"last").await;
        theirs.0.shutdown().await.unwrap();
        ours.receive(b"last").await;
        assert_eq!(ours.stream.read(&mut [0; 8]).await.unwrap(), 0);

        let (mut ours, mut theirs) = beside_the_library(&mesh, false, pipe()).await;
        ours.send(b"last").await;
        ours.stream.shutdown().await.unwrap();
        theirs.receive(b"last").await;
        assert_eq!(theirs.0.read(&mut [0; 8]).await.unwrap(), 0);

        let (mut ours, theirs) = beside_the_library(&mesh, true, pipe()).await;
        drop(theirs);
        let broken = ours.stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::UnexpectedEof, "an end that nobody announced may be an attacker's");
    })
    .await;
}

/// Something that happens to records on their way.
type Change = fn(&mut Vec<u8>);

/// What our end says, and the library's hears, when `change` is made to the records on the way from the library.
async fn changed(change: impl Fn(&mut Vec<u8>)) -> (io::Error, io::Error) {
    with_mesh(DAY, async |mesh| {
        let ((near, mut middle), (mut other, far)) = (pipe(), pipe());
        let carry = async {
            let mut bytes = Vec::with_capacity(64 << 10);
            let mut back = Vec::with_capacity(64 << 10);
            let mut answered = false;
            loop {
                tokio::select! {
                    read = middle.read_buf(&mut bytes) => {
                        read.unwrap();
                        // The first flights are the handshake's.
                        if answered && bytes.len() > 2900 {
                            change(&mut bytes);
                        }
                        other.write_all(&bytes).await.unwrap();
                        bytes.clear();
                    }
                    read = other.read_buf(&mut back) => {
                        answered = true;
                        middle.write_all(&back).await.unwrap();
                        if read.unwrap() == 0 {
                            middle.shutdown().await.unwrap();
                            return std::future::pending::<()>().await;
                        }
                        back.clear();
                    }
                }
            }
        };
        let talk = async {
            let (mut ours, mut theirs) = beside_the_library(&mesh, true, (near, far)).await;
            theirs.send(&text(3000)).await;
            let seen = ours.stream.read_exact(&mut vec![0; 3000]).await.unwrap_err();
            let _gone = ours.stream.shutdown().await;
            let heard = theirs.0.read(&mut [0; 8]).await.unwrap_err();
            (seen, heard)
        };
        tokio::select! {
            errors = talk => errors,
            () = carry => unreachable!("it goes on for good"),
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_changed_record_ends_the_connection_and_the_peer_is_told() {
    let flipped = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    let longer = |bytes: &mut Vec<u8>| bytes[3] = 0xff;
    let unsealed = |bytes: &mut Vec<u8>| bytes[0] = 22;
    let shorter = |bytes: &mut Vec<u8>| bytes[3..5].copy_from_slice(&[0, 3]);
    let changes: [(Change, &str); 4] = [
        (flipped, "a record was changed on the way"),
        (longer, "a record is too long"),
        (unsealed, "a record that is not sealed"),
        (shorter, "a record is too short"),
    ];
    for (change, expected) in changes {
        let (seen, heard) = changed(change).await;
        assert!(seen.to_string().contains(expected), "{expected}: {seen}");
        assert!(HandshakeError::behind(&seen).is_none());
        let heard = heard.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        assert!(matches!(heard, Some(rustls::Error::AlertReceived(_))), "{expected}: {heard:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_our_handshake_is_found_behind_the_first_read() {
    with_mesh(DAY, async |mesh| {
        let server = server_config(&mesh.ready("server").await, &[b"h2"]);
        let elsewhere = root(&TrustDomain::new("elsewhere.test").unwrap(), mesh.clock.now());
        let stranger = Lawless(Some(Arc::new(leaf(&elsewhere, mesh.clock.now(), |_| ()))));
        let (near, far) = pipe();
        let name = rustls::pki_types::ServerName::try_from("nobody.test").unwrap();
        let (_, refused) = tokio::join!(stranger.client().connect(name, near), accept(far, &server, PATIENCE));
        assert_eq!(refused.unwrap_err().fault(), Fault::Peer);

        // Ours as the stranger: the library's server wants a certificate of another authority.
        let roots = Arc::new({
            let mut roots = rustls::RootCertStore::empty();
            roots.add(der(&elsewhere.files.certificate)).unwrap();
            roots
        });
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider()).build().unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Lawless(Some(Arc::new(mesh.leaf(|_| ()))))));
        let client = client_config(&mesh.ready("caller").await, Arc::new([identity("client")]), &[]);
        let (near, far) = pipe();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (ours, theirs) = tokio::join!(connect(near, &client, PATIENCE), acceptor.accept(far));
        assert!(theirs.is_err());
        let error = End::from(ours.unwrap()).stream.read(&mut [0; 1]).await.unwrap_err();
        let refusal = HandshakeError::behind(&error).expect("the refusal is in the error");
        assert_eq!(refusal.fault(), Fault::Ours, "{refusal}");
    })
    .await;
}
