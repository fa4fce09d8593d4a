//! What a node's agent lives through with its authority: it is away, the token has ended, clocks differ.

use std::fs;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use harness::{Controller, Gate};
use serde_json::json;
use sotto::control::authority::remote::{self, RemoteAuthority};
use sotto::drivers::certs::clock::Clock;
use sotto::drivers::certs::store::{CertificateStore, CredentialsError, IdentityHandle, StoreConfig};

use crate::following::SOON;
use crate::lab::{Lab, ask, greet, identity, refused, runtime};

/// A store whose clock is this far ahead, or behind.
fn store(
    agent: &remote::Config,
    lifetime: Duration,
    now: impl Fn() -> SystemTime + Send + Sync + 'static,
) -> (CertificateStore, impl Future<Output = ()> + Send + 'static) {
    let config = StoreConfig { lifetime, clock: Clock::new(now), ..StoreConfig::default() };
    CertificateStore::new(Arc::new(RemoteAuthority::new(agent.clone())), config)
}

/// Drives the renewals of a store for as long as something else takes.
async fn beside<T>(renewals: impl Future<Output = ()>, work: impl Future<Output = T>) -> T {
    let (renewals, work) = (pin!(renewals), pin!(work));
    tokio::select! {
        done = work => done,
        () = renewals => unreachable!("handles are held"),
    }
}

async fn until(what: &str, within: Duration, done: impl Fn() -> bool) {
    let end = Instant::now() + within;
    while !done() {
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn an_authority_may_be_away_for_half_a_lifetime_and_no_longer() {
    const LIFETIME: Duration = Duration::from_secs(12);
    let Some(lab) = Lab::new("an_authority_may_be_away_for_half_a_lifetime_and_no_longer") else { return };
    let controller = Controller::start(&lab.server, &[]);
    controller.wait_ready();
    let gate = Gate::new(controller.address());
    let mut agent = lab.agent(&controller, &lab.token("sotto-node", "agent-a", "istio-ca"));
    agent.address = gate.address().to_string();
    let work = async |client: IdentityHandle, server: IdentityHandle| {
        for handle in [&client, &server] {
            handle.wait_ready(SOON).await.unwrap();
        }
        let (issued, first) = (Instant::now(), client.status());
        gate.close();
        // Past the moment of the renewal, which fails: what was issued serves on.
        while issued.elapsed() < LIFETIME * 3 / 4 {
            greet(&client, &server).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let status = client.status();
        assert_eq!(status.certificate, first.certificate);
        assert!(status.last_error.is_some(), "it was asked for a renewal: {status:?}");
        // Past its end nothing serves, and it is said since when and why.
        until("the certificate ends", LIFETIME, || client.credentials().is_err()).await;
        let error = client.credentials().unwrap_err();
        assert!(matches!(&error, CredentialsError::Expired { last_error: Some(_), .. }), "{error}");
        assert!(error.to_string().contains(&gate.address().to_string()), "the authority is named: {error}");
        gate.open();
        for handle in [&client, &server] {
            handle.wait_ready(SOON).await.unwrap_or_else(|error| panic!("after the outage: {error}"));
        }
        greet(&client, &server).await;
    };
    runtime().block_on(async {
        let (store, renewals) = store(&agent, LIFETIME, SystemTime::now);
        beside(renewals, work(store.hold(&identity("client")), store.hold(&identity("server")))).await;
    });
}

#[test]
fn a_token_that_has_ended_is_refused_and_the_next_one_in_the_file_is_taken() {
    let Some(lab) = Lab::new("a_token_that_has_ended_is_refused") else { return };
    let controller = Controller::start(&lab.server, &[]);
    controller.wait_ready();
    let good = lab.token("sotto-node", "agent-a", "istio-ca");
    let agent = lab.agent(&controller, &good);
    ask(&agent, "client").unwrap();
    let ended = lab.server.sign_again(&good, |claims| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        (claims["iat"], claims["nbf"], claims["exp"]) = (json!(now - 7200), json!(now - 7200), json!(now - 60));
    });
    fs::write(&agent.token, ended).unwrap();
    refused(&agent, "client", "the API server does not accept the token");
    // That it was for its age and for nothing else: the same claims with another end.
    let longer = lab.server.sign_again(&good, |claims| {
        claims["exp"] = json!(claims["exp"].as_u64().unwrap() + 60);
    });
    fs::write(&agent.token, longer).unwrap();
    ask(&agent, "client").unwrap();
    fs::write(&agent.token, lab.token("sotto-node", "agent-a", "istio-ca")).unwrap();
    ask(&agent, "client").unwrap();
    fs::remove_file(&agent.token).unwrap();
    refused(&agent, "client", &agent.token.display().to_string());
    assert!(!controller.log().contains("eyJ"), "no token in the log");
}

#[test]
fn clocks_may_differ_by_a_minute_and_a_worse_one_is_named() {
    const LIFETIME: Duration = Duration::from_secs(600);
    let Some(lab) = Lab::new("clocks_may_differ_by_a_minute_and_a_worse_one_is_named") else { return };
    let controller = Controller::start(&lab.server, &[]);
    controller.wait_ready();
    let agents = [("agent-a", "client"), ("agent-b", "far")]
        .map(|(pod, name)| (lab.agent(&controller, &lab.token("sotto-node", pod, "istio-ca")), identity(name)));
    let skew = Duration::from_secs(60);
    runtime().block_on(async {
        let (ahead, ahead_renews) = store(&agents[0].0, LIFETIME, move || SystemTime::now() + skew);
        let (behind, behind_renews) = store(&agents[1].0, LIFETIME, move || SystemTime::now() - skew);
        let renewals = async {
            tokio::join!(ahead_renews, behind_renews);
        };
        beside(renewals, async {
            let (client, far) = (ahead.hold(&agents[0].1), behind.hold(&agents[1].1));
            client.wait_ready(SOON).await.unwrap();
            far.wait_ready(SOON).await.unwrap();
            greet(&client, &far).await;
            greet(&far, &client).await;
        })
        .await;
    });
    runtime().block_on(async {
        let (late, renewals) = store(&agents[0].0, LIFETIME, || SystemTime::now() - Duration::from_secs(1200));
        beside(renewals, async {
            let client = late.hold(&agents[0].1);
            until("a certificate from the future is refused", SOON, || client.status().last_error.is_some()).await;
            let said = client.status().last_error.unwrap();
            assert!(said.contains("not valid yet") && said.contains("clock"), "{said}");
            assert!(client.credentials().is_err());
        })
        .await;
    });
}
