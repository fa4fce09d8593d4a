//! Directories of authorities: made, shared, taken over from elsewhere, and refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::directory::{self, DirectoryError};
use super::local::LocalAuthority;
use crate::drivers::certs::authority::{Authority, AuthorityError, SigningRequest};
use crate::drivers::certs::clock::Clock;
use crate::drivers::certs::keys::PrivateKey;
use crate::drivers::certs::store::{CertificateStore, StoreConfig};
use crate::drivers::certs::tls::config::{client_config, server_config};
use crate::drivers::certs::tls::handshake::{accept, connect};
use crate::model::identity::{Identity, TrustDomain};

const NAMES: [&str; 4] = ["root-cert.pem", "ca-cert.pem", "ca-key.pem", "cert-chain.pem"];
const PATIENCE: Duration = Duration::from_secs(10);

fn open(directory: &Path) -> Result<LocalAuthority, DirectoryError> {
    LocalAuthority::open(directory, &TrustDomain::default(), Clock::system())
}

fn error_of(directory: &Path) -> String {
    open(directory).map(|_| ()).unwrap_err().to_string()
}

fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap_or_default()))
        .collect();
    files.sort();
    files
}

fn identity(service_account: &str) -> Identity {
    Identity::new(TrustDomain::default(), "default", service_account).unwrap()
}

/// Two nodes with an authority each: their workloads trust each other.
async fn check_handshake(one: LocalAuthority, other: LocalAuthority) {
    let (near_store, near_renewals) = CertificateStore::new(Arc::new(one), StoreConfig::default());
    let (far_store, far_renewals) = CertificateStore::new(Arc::new(other), StoreConfig::default());
    let test = async {
        let (client, server) = (near_store.hold(&identity("client")), far_store.hold(&identity("server")));
        client.wait_ready(PATIENCE).await.unwrap();
        server.wait_ready(PATIENCE).await.unwrap();
        let client = client_config(&client, Arc::new([identity("server")]), &[b"h2"]);
        let server = server_config(&server, &[b"h2"]);
        let (near, far) = tokio::io::duplex(64 << 10);
        let (near, far) = tokio::join!(connect(near, &client, PATIENCE), accept(far, &server, PATIENCE));
        assert_eq!((near.unwrap().peer, far.unwrap().peer), (identity("server"), identity("client")));
    };
    tokio::select! {
        () = test => {}
        ((), ()) = async { tokio::join!(near_renewals, far_renewals) } => panic!("the stores are held by the test"),
    }
}

#[tokio::test]
async fn an_authority_is_made_once_and_then_used() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("a/b");
    let first = open(&directory).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&directory), 0o700);
    for name in NAMES {
        assert_eq!(mode(&directory.join(name)), 0o600, "{name}");
    }
    let made = contents(&directory);
    let names: Vec<_> = made.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [".lock", "ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"]);
    let second = open(&directory).unwrap();
    assert_eq!(contents(&directory), made);
    assert_eq!(first.not_after(), second.not_after());
    check_handshake(first, second).await;
}

#[test]
fn agents_that_start_together_share_one_authority() {
    for _ in 0..5 {
        let parent = TempDir::new().unwrap();
        let directory = parent.path().join("ca");
        let start = Barrier::new(8);
        let roots: Vec<_> = std::thread::scope(|scope| {
            let agents: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        open(&directory).unwrap();
                        fs::read(directory.join("root-cert.pem")).unwrap()
                    })
                })
                .collect();
            agents.into_iter().map(|agent| agent.join().unwrap()).collect()
        });
        assert!(roots.iter().all(|root| *root == roots[0]));
        assert_eq!(fs::read(directory.join("root-cert.pem")).unwrap(), roots[0]);
    }
}

#[test]
fn a_set_with_gaps_is_neither_completed_nor_replaced() {
    for gap in NAMES {
        let directory = TempDir::new().unwrap();
        open(directory.path()).unwrap();
        fs::remove_file(directory.path().join(gap)).unwrap();
        let before = contents(directory.path());
        let error = open(directory.path()).map(|_| ()).unwrap_err();
        assert!(matches!(&error, DirectoryError::Partial { missing, .. } if missing == gap), "{error}");
        assert!(error.to_string().contains(gap), "{error}");
        assert_eq!(contents(directory.path()), before);
    }
}

#[test]
fn a_maker_that_died_is_cleaned_up_after() {
    let whole = TempDir::new().unwrap();
    open(whole.path()).unwrap();
    // Before the set was complete: it does not count.
    let early = TempDir::new().unwrap();
    fs::create_dir(early.path().join(".staging")).unwrap();
    fs::write(early.path().join(".staging/ca-key.pem"), "half a k").unwrap();
    open(early.path()).unwrap();
    assert!(!early.path().join(".staging").exists());
    // On the way into place: it is the authority.
    for moved in 0..=NAMES.len() {
        let late = TempDir::new().unwrap();
        fs::create_dir(late.path().join(".ready")).unwrap();
        for (position, name) in NAMES.iter().enumerate() {
            let place = if position < moved { late.path().join(name) } else { late.path().join(".ready").join(name) };
            fs::copy(whole.path().join(name), place).unwrap();
        }
        open(late.path()).unwrap();
        for name in NAMES {
            assert_eq!(fs::read(late.path().join(name)).unwrap(), fs::read(whole.path().join(name)).unwrap(), "{name}");
        }
    }
    // Somebody put a file of their own in the way: that stays.
    let taken = TempDir::new().unwrap();
    fs::create_dir(taken.path().join(".ready")).unwrap();
    fs::copy(whole.path().join("ca-key.pem"), taken.path().join(".ready/ca-key.pem")).unwrap();
    fs::write(taken.path().join("ca-key.pem"), "mine").unwrap();
    assert!(error_of(taken.path()).contains("will not be overwritten"));
    assert_eq!(fs::read(taken.path().join("ca-key.pem")).unwrap(), b"mine");
}

#[test]
fn a_lock_that_is_not_given_back_is_an_error_and_not_a_hang() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(".lock");
    let held = directory::lock(&path, PATIENCE).unwrap();
    let error = directory::lock(&path, Duration::from_millis(30)).unwrap_err();
    assert!(matches!(error, DirectoryError::Locked { .. }), "{error}");
    drop(held);
    directory::lock(&path, Duration::ZERO).unwrap();
}

#[test]
fn bad_files_are_named_with_their_path() {
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    open(one.path()).unwrap();
    open(other.path()).unwrap();
    fs::copy(other.path().join("ca-key.pem"), one.path().join("ca-key.pem")).unwrap();
    let path = one.path().join("ca-key.pem");
    let error = error_of(one.path());
    assert!(error.contains(path.to_str().unwrap()) && error.contains("not the key of ca-cert.pem"), "{error}");

    fs::write(&path, vec![b'x'; (1 << 20) + 1]).unwrap();
    let error = error_of(one.path());
    assert!(error.contains(path.to_str().unwrap()) && error.contains("larger"), "{error}");

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(error_of(one.path()).contains(path.to_str().unwrap()));

    let error = error_of(&one.path().join("root-cert.pem"));
    assert!(error.contains("root-cert.pem"), "a file is no directory: {error}");
}

#[test]
fn a_key_that_everybody_can_read_is_noticed() {
    for (mode, exposed) in [(0o600, false), (0o400, false), (0o640, false), (0o644, true), (0o604, true), (0o602, true)]
    {
        assert_eq!(directory::is_exposed(0o100_000 | mode), exposed, "{mode:o}");
    }
}

#[tokio::test]
async fn other_trust_domains_are_refused() {
    let directory = TempDir::new().unwrap();
    let authority = open(directory.path()).unwrap();
    let foreign = Identity::new(TrustDomain::new("other.test").unwrap(), "default", "a").unwrap();
    let csr = PrivateKey::generate().unwrap().request(&foreign).unwrap();
    let request = SigningRequest { csr, identity: foreign, lifetime: PATIENCE };
    let error = authority.sign(request).await.unwrap_err();
    assert!(matches!(error, AuthorityError::Refused(_)), "{error}");
}

/// Runs openssl in `directory`; `None` if there is none on this machine.
fn openssl(directory: &Path, arguments: &str) -> Option<()> {
    let output = match Command::new("openssl").args(arguments.split_whitespace()).current_dir(directory).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        output => output.unwrap(),
    };
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

/// A root and an authority below it as Istio's documentation makes them with openssl. `key` says how the authority's
/// key is made.
fn istio_like(directory: &Path, key: &str) -> Option<()> {
    let root =
        "req -x509 -newkey rsa:2048 -nodes -sha256 -days 30 -keyout root-key.pem -out root-cert.pem -config root.conf";
    let base = "[req]\nprompt=no\ndistinguished_name=dn\nx509_extensions=ca\n[dn]\nO=Istio\nCN=";
    let extensions = "\n[ca]\nbasicConstraints=critical,CA:true\nkeyUsage=critical,digitalSignature,nonRepudiation,\
                      keyEncipherment,keyCertSign\nsubjectKeyIdentifier=hash\nsubjectAltName=DNS:istiod.istio-system.svc\n";
    fs::write(directory.join("root.conf"), format!("{base}Root CA{extensions}")).unwrap();
    fs::write(directory.join("ca.conf"), format!("{base}Intermediate CA\nL=cluster1{extensions}")).unwrap();
    openssl(directory, root)?;
    openssl(directory, key)?;
    openssl(directory, "req -new -sha256 -key ca-key.pem -config ca.conf -out ca.csr")?;
    openssl(
        directory,
        "x509 -req -sha256 -days 20 -in ca.csr -CA root-cert.pem -CAkey root-key.pem -CAcreateserial -extfile ca.conf \
         -extensions ca -out ca-cert.pem",
    )?;
    let read = |name: &str| fs::read(directory.join(name)).unwrap();
    fs::write(directory.join("cert-chain.pem"), [read("ca-cert.pem"), read("root-cert.pem")].concat()).unwrap();
    Some(())
}

#[tokio::test]
async fn authorities_made_with_openssl_are_used() {
    for (key, header) in [
        ("genrsa -traditional -out ca-key.pem 2048", "BEGIN RSA PRIVATE KEY"),
        ("genrsa -out ca-key.pem 2048", "BEGIN PRIVATE KEY"),
        ("ecparam -name prime256v1 -genkey -out ca-key.pem", "BEGIN EC PARAMETERS"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp384r1 -out ca-key.pem", "BEGIN PRIVATE KEY"),
    ] {
        let directory = TempDir::new().unwrap();
        if istio_like(directory.path(), key).is_none() {
            println!("no openssl here; the same is tested with keys of our own in drivers/certs/tests/cacerts.rs");
            return;
        }
        let text = fs::read_to_string(directory.path().join("ca-key.pem")).unwrap();
        assert!(text.contains(header), "openssl writes the form that this case is about");
        let before = contents(directory.path());
        let (one, other) = (open(directory.path()).unwrap(), open(directory.path()).unwrap());
        assert!(one.not_after() < SystemTime::now() + Duration::from_hours(24 * 21), "not longer than the authority");
        assert_eq!(contents(directory.path()), before, "not even a lock file: it may be a read-only mount");
        check_handshake(one, other).await;
    }
}
