//! Handshakes that succeed, and failures that have nothing to do with the peer's certificate.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::drivers::certs::tls::config::{client_config, server_config};
use crate::drivers::certs::tls::handshake::{Fault, HandshakeError, accept, connect};

const DAY: Duration = Duration::from_hours(24);

#[tokio::test(start_paused = true)]
async fn both_sides_prove_who_they_are() {
    with_mesh(DAY, async |mesh| {
        let (client, server) = (mesh.ready("client").await, mesh.ready("server").await);
        let server_side = server_config(&server, &[b"sotto/1", b"h2"]);
        let client_side = client_config(&client, Arc::new([identity("other"), identity("server")]), &[b"h2"]);
        let (near, far) = pipe();
        let (near, far) = connected(connect(near, &client_side, PATIENCE), accept(far, &server_side, PATIENCE)).await;

        assert_eq!((&near.peer, &far.peer), (&identity("server"), &identity("client")));
        assert_eq!(near.protocol.as_deref(), Some(&b"h2"[..]));
        assert_eq!(far.protocol.as_deref(), Some(&b"h2"[..]));
        let (mut near, mut far) = (End::from(near), End::from(far));
        near.send(b"ping").await;
        far.receive(b"ping").await;
        far.send(b"pong").await;
        near.receive(b"pong").await;
    })
    .await;
}

/// What the server says about a client that sends `bytes` and then leaves.
async fn server_says(bytes: &[u8]) -> HandshakeError {
    with_mesh(DAY, async |mesh| {
        let config = server_config(&mesh.ready("server").await, &[b"h2"]);
        let (mut near, far) = pipe();
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        accept(far, &config, PATIENCE).await.map(|_| ()).unwrap_err()
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn plain_text_and_garbage_are_not_tls() {
    for bytes in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", &[0xff; 4096], &[0; 100]] {
        let error = server_says(bytes).await;
        assert!(matches!(error, HandshakeError::NotTls(_)), "{bytes:?}: {error:?}");
        assert_eq!(error.fault(), Fault::Peer);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_is_a_lost_connection() {
    let error = server_says(b"").await;
    assert!(matches!(error, HandshakeError::Connection(_)), "{error:?}");
    assert_eq!(error.fault(), Fault::Network);
}

#[tokio::test(start_paused = true)]
async fn tls_1_2_is_refused() {
    let error = server_says(&tls12_client_hello()).await;
    assert!(matches!(error, HandshakeError::Incompatible(_)), "{error:?}");
    assert!(error.to_string().contains("TLS 1.3"), "{error}");
    assert_eq!(error.fault(), Fault::Peer);
}

/// A ClientHello of RFC 5246, section 7.4.1.2: ECDHE with AES-GCM, no `supported_versions`.
fn tls12_client_hello() -> Vec<u8> {
    let extensions: &[u8] = &[
        0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x17, // supported_groups: secp256r1
        0x00, 0x0b, 0x00, 0x02, 0x01, 0x00, // ec_point_formats: uncompressed
        0x00, 0x0d, 0x00, 0x04, 0x00, 0x02, 0x04, 0x03, // signature_algorithms: ecdsa_secp256r1_sha256
    ];
    let mut body = vec![0x03, 0x03];
    body.extend([7; 32]);
    body.extend([0x00, 0x00, 0x02, 0xc0, 0x2b, 0x01, 0x00]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut hello = vec![0x16, 0x03, 0x01];
    hello.extend((body.len() as u16 + 4).to_be_bytes());
    hello.extend([0x01, 0x00]);
    hello.extend((body.len() as u16).to_be_bytes());
    hello.extend(body);
    hello
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_runs_into_the_deadline() {
    with_mesh(DAY, async |mesh| {
        let handle = mesh.ready("server").await;
        let (_near, far) = pipe();
        let server = accept(far, &server_config(&handle, &[b"h2"]), PATIENCE).await.map(|_| ()).unwrap_err();
        let (near, _far) = pipe();
        let expected = Arc::new([identity("server")]);
        let client =
            connect(near, &client_config(&handle, expected, &[b"h2"]), PATIENCE).await.map(|_| ()).unwrap_err();
        for error in [server, client] {
            assert!(matches!(error, HandshakeError::Timeout(PATIENCE)), "{error:?}");
            assert_eq!(error.fault(), Fault::Network);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_in_plain_text_is_not_tls() {
    with_mesh(DAY, async |mesh| {
        let handle = mesh.ready("client").await;
        let (near, mut far) = pipe();
        far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let config = client_config(&handle, Arc::new([identity("server")]), &[b"h2"]);
        let error = connect(near, &config, PATIENCE).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, HandshakeError::NotTls(_)), "{error:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_a_common_protocol_there_is_no_stream() {
    with_mesh(DAY, async |mesh| {
        let (client, server) = (mesh.ready("client").await, mesh.ready("server").await);
        let (near, far) = pipe();
        let client = client_config(&client, Arc::new([identity("server")]), &[b"sotto/1"]);
        let server = server_config(&server, &[b"h2"]);
        let (near, far) = tokio::join!(connect(near, &client, PATIENCE), accept(far, &server, PATIENCE));
        let (near, far) = (near.map(|_| ()).unwrap_err(), far.map(|_| ()).unwrap_err());
        assert!(matches!(far, HandshakeError::Incompatible(_)), "{far:?}");
        assert!(matches!(near, HandshakeError::Refused(_)), "{near:?}");
        assert!(near.to_string().contains("ALPN"), "{near}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_a_certificate_the_peer_is_not_spoken_to() {
    with_mesh(DAY, async |mesh| {
        mesh.authority.now_does(Behaviour::Fail);
        let handle = mesh.store.hold(&identity("server"));
        let not_ready = handle.wait_ready(PATIENCE).await.unwrap_err();
        assert!(not_ready.to_string().contains("scripted failure"), "{not_ready}");
        let (mut near, far) = pipe();
        let error = accept(far, &server_config(&handle, &[b"h2"]), PATIENCE).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, HandshakeError::Credentials(_)), "{error:?}");
        assert_eq!(error.fault(), Fault::Ours);
        assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0, "closed without a byte");
    })
    .await;
}
