//! The store over time: fetched once, renewed while streams stay open, kept through failures, closed on expiry,
//! forgotten.

use std::sync::Arc;

use super::*;
use crate::drivers::certs::keys::PrivateKey;
use crate::drivers::certs::store::CredentialsError;
use crate::drivers::certs::tls::config::{ClientConfig, ServerConfig, client_config, server_config};
use crate::drivers::certs::tls::handshake::{HandshakeError, accept, connect};

const SECONDS: Duration = Duration::from_secs(8);
const DAY: Duration = Duration::from_hours(24);

/// Waits for `condition`, for at most two days of the paused clock, looking less often the longer it takes.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < 2 * DAY, "waited in vain until {what}");
        let step = start.elapsed() / 200;
        tokio::time::sleep(step.clamp(Duration::from_millis(20), Duration::from_secs(10))).await;
    }
}

fn serial(handle: &IdentityHandle) -> String {
    handle.credentials().unwrap().serial().to_owned()
}

struct Pair {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Pair {
    fn new(client: &IdentityHandle, server: &IdentityHandle) -> Self {
        let expected = Arc::new([server.identity().clone()]);
        Self { client: client_config(client, expected, &[b"h2"]), server: server_config(server, &[b"h2"]) }
    }

    async fn connect(&self) -> (End, End) {
        let (near, far) = pipe();
        let (near, far) = connected(connect(near, &self.client, PATIENCE), accept(far, &self.server, PATIENCE)).await;
        (near.into(), far.into())
    }
}

async fn echo(near: &mut End, far: &mut End) {
    near.send(b"hello").await;
    far.receive(b"hello").await;
    far.send(b"hello").await;
    near.receive(b"hello").await;
}

#[tokio::test(start_paused = true)]
async fn concurrent_demand_fetches_once() {
    with_mesh(DAY, async |mesh| {
        let handles: Vec<_> = (0..50).map(|_| mesh.store.hold(&identity("a"))).collect();
        let ready = handles.iter().map(|handle| handle.wait_ready(PATIENCE));
        let ready = futures_util::future::join_all(ready).await;
        assert_eq!(mesh.authority.times_asked(), 1);
        let first = ready[0].as_ref().unwrap();
        assert!(ready.iter().all(|other| Arc::ptr_eq(first, other.as_ref().unwrap())), "all share one key");
        drop(mesh.ready("b").await);
        assert_eq!(mesh.authority.times_asked(), 2, "another identity has a certificate of its own");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn many_identities_ask_a_few_at_a_time_and_all_get_theirs() {
    with_mesh(DAY, async |mesh| {
        mesh.authority.now_does(Behaviour::Hang);
        let handles: Vec<_> = (0..40).map(|n| mesh.store.hold(&identity(&format!("w{n}")))).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(mesh.authority.times_asked(), 8);
        mesh.authority.now_does(Behaviour::Sign(Arc::clone(&mesh.root)));
        until("all are ready", || handles.iter().all(|handle| handle.credentials().is_ok())).await;
        assert_eq!(mesh.store.snapshot().len(), 40);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn renewal_leaves_open_streams_alone_and_new_handshakes_show_it() {
    with_mesh(SECONDS, async |mesh| {
        let (client, server) = (mesh.ready("client").await, mesh.ready("server").await);
        let pair = Pair::new(&client, &server);
        let (mut near, mut far) = pair.connect().await;
        let (first_server, first_client) = (serial(&server), serial(&client));
        assert_eq!((near.serial_of_peer(), far.serial_of_peer()), (first_server.clone(), first_client.clone()));

        // Longer than the first certificates live: the stream outlives them.
        until("both were renewed three times", || {
            [&client, &server].iter().all(|handle| handle.status().rotations >= 3)
        })
        .await;
        echo(&mut near, &mut far).await;

        let (mut newer_near, mut newer_far) = pair.connect().await;
        assert_eq!(newer_near.serial_of_peer(), serial(&server));
        assert_eq!(newer_far.serial_of_peer(), serial(&client));
        assert_ne!(newer_near.serial_of_peer(), first_server);
        assert_ne!(newer_far.serial_of_peer(), first_client);
        echo(&mut newer_near, &mut newer_far).await;
        echo(&mut near, &mut far).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn renewal_is_at_half_life() {
    with_mesh(DAY, async |mesh| {
        let handle = mesh.ready("a").await;
        let first = serial(&handle);
        tokio::time::sleep(DAY / 2 - Duration::from_mins(2)).await;
        assert_eq!((serial(&handle), mesh.authority.times_asked()), (first.clone(), 1));
        tokio::time::sleep(Duration::from_mins(4)).await;
        assert_eq!(mesh.authority.times_asked(), 2);
        assert_ne!(serial(&handle), first);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_keeps_the_old_certificate_until_it_expires() {
    with_mesh(DAY, async |mesh| {
        let (client, server) = (mesh.ready("client").await, mesh.ready("server").await);
        let pair = Pair::new(&client, &server);
        let first = serial(&server);
        let (mut near, mut far) = pair.connect().await;
        mesh.authority.now_does(Behaviour::Fail);
        until("renewal failed", || server.status().last_error.is_some() && client.status().last_error.is_some()).await;
        assert_eq!(serial(&server), first);
        drop(pair.connect().await);
        let status = server.status();
        assert_eq!((status.rotations, status.certificate.unwrap().serial), (0, first.clone()));
        assert!(status.last_error.unwrap().contains("scripted failure"));

        // Twelve hours at 150 seconds, or up to a quarter less, are 288 to 384 attempts, and a few with the shorter first ones.
        assert_eq!(mesh.store.expired(), []);
        let both = || [&client, &server].iter().all(|handle| handle.credentials().is_err());
        until("both certificates have expired", both).await;
        let expired = mesh.store.expired();
        assert!(expired.iter().all(|error| matches!(error, CredentialsError::Expired { .. })), "{expired:?}");
        assert_eq!(expired.len(), 2);
        assert!((2 * 288..2 * 410).contains(&mesh.authority.times_asked()), "{}", mesh.authority.times_asked());
        let error = server.credentials().unwrap_err();
        assert!(matches!(error, CredentialsError::Expired { .. }), "{error:?}");
        assert!(error.to_string().contains("scripted failure"), "{error}");
        let (_, there) = pipe();
        let error = accept(there, &pair.server, PATIENCE).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, HandshakeError::Credentials(_)), "{error:?}");
        echo(&mut near, &mut far).await;

        mesh.authority.now_does(Behaviour::Sign(Arc::clone(&mesh.root)));
        until("the authority is back", || server.credentials().is_ok() && client.credentials().is_ok()).await;
        assert_eq!(server.status().last_error, None);
        assert_eq!(mesh.store.expired(), []);
        drop(pair.connect().await);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn certificates_of_seconds_survive_a_short_failure() {
    with_mesh(SECONDS, async |mesh| {
        let handle = mesh.ready("a").await;
        mesh.authority.now_does(Behaviour::Fail);
        until("renewal failed twice", || mesh.authority.times_asked() >= 3).await;
        mesh.authority.now_does(Behaviour::Sign(Arc::clone(&mesh.root)));
        until("it was renewed", || {
            assert!(handle.credentials().is_ok(), "there was always one to use");
            handle.status().rotations == 1
        })
        .await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_hangs_is_asked_again() {
    with_mesh(DAY, async |mesh| {
        mesh.authority.now_does(Behaviour::Hang);
        let handle = mesh.store.hold(&identity("a"));
        let error = handle.wait_ready(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error, CredentialsError::NotIssued { identity: identity("a"), last_error: None });
        until("the request was given up", || handle.status().last_error.is_some()).await;
        assert!(handle.status().last_error.unwrap().contains("did not answer"));
        mesh.authority.now_does(Behaviour::Sign(Arc::clone(&mesh.root)));
        handle.wait_ready(PATIENCE).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_peers_would_refuse_are_not_used() {
    with_mesh(DAY, async |mesh| {
        let key = PrivateKey::generate().unwrap();
        let request = |identity: &Identity| SigningRequest {
            csr: key.request(identity).unwrap(),
            identity: identity.clone(),
            lifetime: DAY,
        };
        let issue = |name: &str| mesh.root.issuer.sign(&request(&identity(name)), mesh.clock.now()).unwrap();
        let good = issue("a");
        let stranger = root(&TrustDomain::default(), mesh.clock.now());
        let answers = [
            (good.clone(), "another key"),
            (issue("b"), "another workload"),
            (IssuedChain { chain: vec![], ..good.clone() }, "no certificate"),
            (IssuedChain { roots: vec![], ..good.clone() }, "no trusted root"),
            (IssuedChain { roots: vec![der(&stranger.files.certificate).to_vec()], ..good.clone() }, "trusted root"),
            (IssuedChain { roots: vec![b"junk".to_vec()], ..good.clone() }, "cannot be read"),
            (IssuedChain { chain: vec![b"junk".to_vec()], ..good }, "cannot be read"),
        ];
        for (answer, reason) in answers {
            mesh.authority.now_does(Behaviour::Answer(answer));
            let handle = mesh.store.hold(&identity("a"));
            let error = handle.wait_ready(PATIENCE).await.unwrap_err();
            assert!(error.to_string().contains(reason), "{reason}: {error}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn roots_are_replaced_with_the_certificates() {
    with_mesh(SECONDS, async |mesh| {
        let (client, server) = (mesh.ready("client").await, mesh.ready("server").await);
        let pair = Pair::new(&client, &server);
        let (mut near, mut far) = pair.connect().await;
        let next = Arc::new(root(&TrustDomain::default(), mesh.clock.now()));
        mesh.authority.now_does(Behaviour::Sign(Arc::clone(&next)));
        let before = mesh.authority.times_asked();
        until("both moved to the new root", || mesh.authority.times_asked() >= before + 2).await;
        until("both are renewed", || client.status().rotations > 0 && server.status().rotations > 0).await;
        drop(pair.connect().await);
        echo(&mut near, &mut far).await;

        // The old root is trusted no more, without a new configuration.
        let now = mesh.clock.now();
        let old = leaf(&mesh.root, now, |_| {});
        let chain = crate::drivers::certs::verify::Chain { leaf: &old.cert[0], intermediates: &[] };
        let credentials = server.credentials().unwrap();
        let expected = crate::drivers::certs::verify::Expected::TrustDomain(TrustDomain::default());
        let side = crate::drivers::certs::verify::Side::Client;
        let at = crate::drivers::certs::clock::unix_time(now);
        assert!(credentials.roots().verify(chain, side, &expected, at).is_err());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_last_holder_takes_the_key_along() {
    with_mesh(SECONDS, async |mesh| {
        let (client, server) = (mesh.ready("client").await, mesh.ready("server").await);
        let pair = Pair::new(&client, &server);
        let (mut near, mut far) = pair.connect().await;
        let key = Arc::downgrade(&client.credentials().unwrap());
        assert_eq!(mesh.store.snapshot().len(), 2);

        drop(client);
        assert!(key.upgrade().is_some(), "the configuration holds it, too");
        drop(pair);
        assert!(key.upgrade().is_none(), "an open stream does not need it");
        echo(&mut near, &mut far).await;
        let left: Vec<_> = mesh.store.snapshot().into_iter().map(|status| status.identity).collect();
        assert_eq!(left, [identity("server")]);

        drop(server);
        let asked = mesh.authority.times_asked();
        tokio::time::sleep(10 * SECONDS).await;
        assert_eq!(mesh.authority.times_asked(), asked, "nobody renews for nobody");

        let again = mesh.ready("client").await;
        assert_eq!(again.status().rotations, 0);
        assert_eq!(mesh.authority.times_asked(), asked + 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn forgetting_an_identity_gives_up_its_request() {
    with_mesh(DAY, async |mesh| {
        mesh.authority.now_does(Behaviour::Hang);
        let handles: Vec<_> = (0..8).map(|n| mesh.store.hold(&identity(&format!("w{n}")))).collect();
        until("all slots are taken", || mesh.authority.times_asked() == 8).await;
        drop(handles);
        mesh.authority.now_does(Behaviour::Sign(Arc::clone(&mesh.root)));
        let start = Instant::now();
        drop(mesh.ready("other").await);
        assert!(start.elapsed() < Duration::from_secs(1), "the slots are free again");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_nobody_drives_says_so() {
    let clock = paused_clock();
    let root = Arc::new(root(&TrustDomain::default(), clock.now()));
    let behaviour = Mutex::new(Behaviour::Sign(root));
    let authority = Arc::new(ScriptedAuthority { behaviour, asked: AtomicUsize::new(0), clock });
    let (store, renewals) = CertificateStore::new(authority, StoreConfig::default());
    drop(renewals);
    let error = store.hold(&identity("a")).wait_ready(PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("shut down"), "{error}");
}
