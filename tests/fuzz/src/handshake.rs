//! TLS handshakes with a hostile peer, on either side. What comes after them is records, whose keys no mutation finds.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use sotto::control::authority::local::LocalAuthority;
use sotto::drivers::certs::clock::Clock;
use sotto::drivers::certs::store::{CertificateStore, IdentityHandle, StoreConfig};
use sotto::drivers::certs::tls::config::{client_config, server_config};
use sotto::drivers::certs::tls::handshake::{accept, connect};
use sotto::model::identity::{Identity, TrustDomain};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const PROTOCOLS: &[&[u8]] = &[b"sotto/1", b"h2"];

/// Longer than a handshake without a network takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// How an input is played; its first byte.
const SERVES: u8 = 0x01;
/// Everything comes in pieces of this many bytes, if not in one.
const PIECE: u8 = 0x1e;

pub(crate) fn handshake(data: &[u8]) {
    let Some((&play, input)) = data.split_first() else { return };
    // It is made with a runtime of its own, before another one runs.
    let handle = handle();
    runtime().block_on(async {
        let (near, far) = duplex(256 << 10);
        let peer = speak(far, input, usize::from(play & PIECE));
        let ours = async {
            let ended = if play & SERVES != 0 {
                accept(near, &server_config(handle, PROTOCOLS), PATIENCE).await.map(drop)
            } else {
                let expected = Arc::new([handle.identity().clone()]);
                connect(near, &client_config(handle, expected, PROTOCOLS), PATIENCE).await.map(drop)
            };
            assert!(ended.is_err(), "nobody proves an identity with bytes from nowhere");
        };
        tokio::join!(ours, peer);
    });
}

async fn speak(mut far: DuplexStream, input: &[u8], piece: usize) {
    for part in input.chunks(if piece == 0 { input.len().max(1) } else { piece }) {
        // The other end may have had enough.
        if far.write_all(part).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    let _gone = far.shutdown().await;
    let _answer = far.read_to_end(&mut Vec::new()).await;
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// An identity with a certificate.
fn handle() -> &'static IdentityHandle {
    static HANDLE: OnceLock<IdentityHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("sotto-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let domain = TrustDomain::default();
        let authority = LocalAuthority::open(&folder, &domain, Clock::system()).expect("an authority");
        std::fs::remove_dir_all(&folder).expect("the folder goes");
        runtime().block_on(async {
            let (store, renewals) = CertificateStore::new(Arc::new(authority), StoreConfig::default());
            let handle = store.hold(&Identity::new(domain, "demo", "web").expect("an identity"));
            tokio::select! {
                ready = handle.wait_ready(PATIENCE) => drop(ready.expect("a certificate")),
                () = renewals => unreachable!("the store is there"),
            }
            handle
        })
    })
}

/// What honest peers say first.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let handle = handle();
    let hello = runtime().block_on(async {
        let (near, mut far) = duplex(64 << 10);
        let expected = Arc::new([handle.identity().clone()]);
        let config = client_config(handle, expected, PROTOCOLS);
        let mut bytes = vec![0; 4096];
        tokio::select! {
            _ = connect(near, &config, PATIENCE) => unreachable!("nobody answers"),
            read = far.read(&mut bytes) => bytes.truncate(read.expect("a ClientHello")),
        }
        bytes
    });
    let flight = runtime().block_on(async {
        let (near, mut far) = duplex(64 << 10);
        far.write_all(&hello).await.expect("room");
        let config = server_config(handle, PROTOCOLS);
        let mut bytes = vec![0; 16 << 10];
        tokio::select! {
            _ = accept(near, &config, PATIENCE) => unreachable!("the client says no more"),
            read = far.read(&mut bytes) => bytes.truncate(read.expect("a flight")),
        }
        bytes
    });
    let twice = [&hello[..], &hello[..]].concat();
    let play = |play: u8, bytes: &[u8]| [&[play], bytes].concat();
    vec![play(SERVES, &hello), play(SERVES | 6, &hello), play(SERVES, &twice), play(0, &flight), play(8, &flight)]
}
