//! The decision as a table, and the whole service over loopback: a real server and client, with a scripted witness.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::authorize::{Claim, Refusal, Rules, hosts, node_of};
use super::caller::{BoundPod, Caller, ServiceAccount};
use super::listener;
use super::service::{Config, Issuance};
use super::witness::Witness;
use crate::control::authority::remote::{self, RemoteAuthority};
use crate::control::authority::root::record::Record;
use crate::control::authority::root::rotation::Timing;
use crate::control::authority::root::signer::Signer;
use crate::drivers::certs::authority::{Authority as _, AuthorityError, IssuedChain, SigningRequest};
use crate::drivers::certs::ca::serving::ServingCertificate;
use crate::drivers::certs::clock::Clock;
use crate::drivers::certs::credentials::Credentials;
use crate::drivers::certs::keys::PrivateKey;
use crate::drivers::certs::tls::service::ServiceConfig;
use crate::drivers::cluster::ApiError;
use crate::drivers::cluster::node_pods::{Freshness, PodFacts};
use crate::drivers::cluster::review::token::Reviewed;
use crate::drivers::grpc::server;
use crate::model::identity::{Identity, TrustDomain};
use crate::telemetry::authority::AuthorityMetrics;

const HOUR: Duration = Duration::from_hours(1);
const TIMING: Timing = Timing {
    max_leaf: HOUR,
    wait: HOUR,
    root: Duration::from_hours(24 * 365),
    intermediate: Duration::from_hours(24 * 30),
};
const SERVER: &str = "ca.mesh.svc";

fn rules() -> Rules {
    let agent = ServiceAccount { namespace: "mesh".into(), name: "agent".into() };
    Rules { trust_domain: TrustDomain::default(), node_accounts: vec![agent] }
}

fn caller(account: &str, pod: Option<&str>) -> Caller {
    let pod = pod.map(|name| BoundPod { name: name.into(), uid: format!("{name}-uid"), node: None });
    Caller { account: ServiceAccount::parse(account).unwrap(), pod }
}

fn pod(name: &str, account: &str, node: &str) -> PodFacts {
    let ServiceAccount { namespace, name: service_account } = ServiceAccount::parse(account).unwrap();
    PodFacts {
        namespace,
        name: name.into(),
        uid: format!("{name}-uid"),
        node: node.into(),
        service_account,
        ..PodFacts::default()
    }
}

fn identity(account: &str) -> Identity {
    let ServiceAccount { namespace, name } = ServiceAccount::parse(account).unwrap();
    Identity::new(TrustDomain::default(), &namespace, &name).unwrap()
}

#[test]
fn who_may_claim_what() {
    let claim = |account, pod, wanted| rules().claim(&caller(account, pod), wanted);
    let agent = Some("agent-1");
    let on_behalf = claim("mesh/agent", agent, Some("spiffe://cluster.local/ns/a/sa/b"));
    assert!(matches!(on_behalf, Ok(Claim::OnBehalf { identity: wanted, .. }) if wanted == identity("a/b")));
    let own = claim("a/b", Some("b-1"), None);
    assert!(
        matches!(own, Ok(Claim::Own { identity: own, .. }) if own == identity("a/b")),
        "anybody may ask for itself"
    );

    let refused = |account, pod, wanted| claim(account, pod, wanted).unwrap_err().code();
    let b = Some("spiffe://cluster.local/ns/a/sa/b");
    assert_eq!(refused("a/b", Some("b-1"), b), "not_a_node_agent", "not even for itself, in this way");
    assert_eq!(refused("other/agent", agent, b), "not_a_node_agent", "the namespace counts");
    assert_eq!(refused("mesh/agent", None, b), "no_pod");
    assert_eq!(refused("a/b", None, None), "no_pod");
    assert_eq!(refused("mesh/agent", agent, Some("spiffe://other/ns/a/sa/b")), "trust_domain");
    for wrong in [
        "",
        "spiffe://cluster.local/ns/a/sa/",
        "spiffe://cluster.local/ns/a/sa/b/../c",
        "a/b",
        "spiffe://cluster.local/ns/A/sa/b",
    ] {
        assert_eq!(refused("mesh/agent", agent, Some(wrong)), "not_an_identity", "{wrong:?}");
    }
}

#[test]
fn the_callers_node_is_that_of_its_very_pod() {
    let bound = caller("mesh/agent", Some("agent-1")).pod.unwrap();
    let there = pod("agent-1", "mesh/agent", "n1");
    assert_eq!(node_of(&bound, Some(&there)), Ok("n1".to_owned()));
    let gone = Err(Refusal::CallerGone("agent-1".into()));
    assert_eq!(node_of(&bound, None), gone);
    assert_eq!(node_of(&bound, Some(&PodFacts { uid: "another".into(), ..there.clone() })), gone);
    assert_eq!(node_of(&bound, Some(&PodFacts { finished: true, ..there.clone() })), gone);
    let nowhere = Err(Refusal::CallerNowhere("agent-1".into()));
    assert_eq!(node_of(&bound, Some(&PodFacts { node: String::new(), ..there })), nowhere);
}

#[test]
fn an_identity_is_at_home_where_it_has_a_pod_that_can_be_carried() {
    let there = pod("b-1", "a/b", "n1");
    let at_home = |change: &dyn Fn(&mut PodFacts)| {
        let mut pod = there.clone();
        change(&mut pod);
        hosts(&[pod], "n1", &identity("a/b"))
    };
    assert!(at_home(&|_| {}));
    assert!(!at_home(&|pod| pod.node = "n2".into()), "a server that ignores the selector changes nothing");
    assert!(!at_home(&|pod| pod.namespace = "c".into()));
    assert!(!at_home(&|pod| pod.service_account = "default".into()));
    assert!(!at_home(&|pod| pod.host_network = true));
    assert!(!at_home(&|pod| pod.finished = true));
    assert!(!hosts(&[], "n1", &identity("a/b")));
}

/// A cluster that says what it is told to: a token is the name of its owner's pod.
#[derive(Default)]
struct Script {
    pods: Mutex<Vec<PodFacts>>,
    /// What the cache does not know yet.
    new_pods: Mutex<Vec<PodFacts>>,
    away: AtomicBool,
}

impl Script {
    fn answer<T>(&self, answer: T) -> Result<T, ApiError> {
        if self.away.load(Ordering::SeqCst) { Err(ApiError::Unreachable("nobody there".into())) } else { Ok(answer) }
    }
}

impl Witness for Script {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Result<Reviewed, String>, ApiError>> {
        let pods = self.pods.lock().unwrap();
        let owner = pods.iter().find(|pod| pod.name == token).ok_or_else(|| "token has expired".to_owned());
        let reviewed = owner.map(|pod| Reviewed {
            username: format!("system:serviceaccount:{}:{}", pod.namespace, pod.service_account),
            extra: BTreeMap::from([
                ("authentication.kubernetes.io/pod-name".to_owned(), vec![pod.name.clone()]),
                ("authentication.kubernetes.io/pod-uid".to_owned(), vec![pod.uid.clone()]),
            ]),
        });
        Box::pin(std::future::ready(self.answer(reviewed)))
    }

    fn pod<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<PodFacts>, ApiError>> {
        let found =
            self.pods.lock().unwrap().iter().find(|pod| pod.namespace == namespace && pod.name == name).cloned();
        Box::pin(std::future::ready(self.answer(found)))
    }

    fn pods_on<'a>(&'a self, _: &'a str, fresh: Freshness) -> BoxFuture<'a, Result<Vec<PodFacts>, ApiError>> {
        let mut pods = self.pods.lock().unwrap().clone();
        if fresh == Freshness::Exact {
            pods.extend(self.new_pods.lock().unwrap().clone());
        }
        Box::pin(std::future::ready(self.answer(pods)))
    }
}

/// A server on loopback and a node agent's way to it.
struct Lab {
    script: Arc<Script>,
    signer: watch::Sender<Signer>,
    metrics: AuthorityMetrics,
    directory: tempfile::TempDir,
    agent: remote::Config,
}

impl Lab {
    async fn with(test: impl AsyncFnOnce(&Self)) {
        let now = SystemTime::now();
        let record = Record::create(&TrustDomain::default(), &TIMING, now).unwrap();
        let issuer = Arc::new(record.issuer(&TrustDomain::default(), now).unwrap());
        let serving = ServingCertificate::new();
        serving.renew(&issuer, &[SERVER.to_owned()], HOUR, now).unwrap();
        let (signer, signing) = watch::channel(Signer::new(issuer, Instant::now(), HOUR));
        let script = Arc::<Script>::default();
        script.pods.lock().unwrap().extend([
            pod("agent-1", "mesh/agent", "n1"),
            pod("b-1", "a/b", "n1"),
            pod("c-1", "a/c", "n2"),
        ]);
        let metrics = AuthorityMetrics::new();
        let config = Config { rules: rules(), max_lifetime: HOUR, clock: Clock::system() };
        let witness = Arc::<Script>::clone(&script);
        let issuance = Arc::new(Issuance::new(config, witness, signing, metrics.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections = listener::connections(listener, ServiceConfig::new(&serving, &[b"h2"]));

        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("roots"), record.bundle().unwrap()).unwrap();
        std::fs::write(path("token"), "agent-1\n").unwrap();
        let agent = remote::Config {
            address,
            server_name: SERVER.into(),
            roots: path("roots"),
            token: path("token"),
            cluster: "Kubernetes".into(),
        };
        let lab = Self { script, signer, metrics, directory, agent };
        tokio::select! {
            served = server::serve(connections, issuance, std::future::pending()) => panic!("the server ended: {served:?}"),
            () = test(&lab) => {}
        }
    }

    fn shows(&self, token: &str) {
        std::fs::write(self.directory.path().join("token"), token).unwrap();
    }

    async fn asks(&self, account: &str, lifetime: Duration) -> Result<IssuedChain, AuthorityError> {
        self.asks_with(&self.agent, account, lifetime).await
    }

    async fn asks_with(
        &self,
        agent: &remote::Config,
        account: &str,
        lifetime: Duration,
    ) -> Result<IssuedChain, AuthorityError> {
        let identity = identity(account);
        let key = PrivateKey::generate().unwrap();
        let request = SigningRequest { csr: key.request(&identity).unwrap(), identity: identity.clone(), lifetime };
        let issued = RemoteAuthority::new(agent.clone()).sign(request).await?;
        let credentials = Credentials::accept(&identity, &key, issued.clone(), SystemTime::now()).unwrap();
        let left = credentials.not_after().duration_since(SystemTime::now()).unwrap();
        assert!(left <= lifetime.min(HOUR) && left + Duration::from_secs(30) > lifetime.min(HOUR), "{left:?}");
        Ok(issued)
    }

    async fn refusal(&self, account: &str) -> String {
        self.asks(account, HOUR).await.unwrap_err().to_string()
    }
}

#[tokio::test]
async fn an_agent_gets_what_peers_accept_and_no_longer_than_is_allowed() {
    Lab::with(async |lab| {
        let issued = lab.asks("a/b", Duration::from_secs(600)).await.unwrap();
        assert_eq!((issued.chain.len(), issued.roots.len()), (2, 1), "leaf and intermediate, and the root apart");
        lab.asks("a/b", HOUR * 1000).await.unwrap();
        assert!(lab.metrics.page().unwrap().contains("sotto_ca_requests_total{outcome=\"issued\"} 2"));
    })
    .await;
}

#[tokio::test]
async fn refusals_name_the_authority_and_the_reason() {
    Lab::with(async |lab| {
        let refusal = lab.refusal("a/c").await;
        assert!(
            refusal.contains(&lab.agent.address) && refusal.contains("no pod on the caller's node n1"),
            "{refusal}"
        );
        lab.script.new_pods.lock().unwrap().push(pod("c-2", "a/c", "n1"));
        lab.asks("a/c", HOUR).await.unwrap();

        lab.shows("b-1");
        let refusal = lab.refusal("a/c").await;
        assert!(
            refusal.contains("a/b may not ask for the identities of others; node agents run as mesh/agent"),
            "{refusal}"
        );
        lab.shows("nobody");
        let refusal = lab.refusal("a/b").await;
        assert!(refusal.contains("the API server does not accept the token: token has expired"), "{refusal}");
        lab.shows("");
        let refusal = lab.refusal("a/b").await;
        assert!(refusal.contains("the authority refuses"), "{refusal}");
        let page = lab.metrics.page().unwrap();
        for outcome in ["not_on_node", "not_a_node_agent", "unauthenticated"] {
            assert!(page.contains(&format!("sotto_ca_requests_total{{outcome=\"{outcome}\"}}")), "{page}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_away_is_not_a_refusal() {
    Lab::with(async |lab| {
        lab.script.away.store(true, Ordering::SeqCst);
        let error = lab.asks("a/b", HOUR).await.unwrap_err();
        assert!(matches!(&error, AuthorityError::Unavailable(reason) if reason.contains("nobody there")), "{error}");
        lab.script.away.store(false, Ordering::SeqCst);
        lab.signer.send_replace(Signer::missing("there is no root yet"));
        let error = lab.asks("a/b", HOUR).await.unwrap_err();
        assert!(matches!(&error, AuthorityError::Unavailable(reason) if reason.contains("there is no root yet")), "{error}");
        let nowhere = remote::Config { address: "127.0.0.1:1".into(), ..lab.agent.clone() };
        let error = lab.asks_with(&nowhere, "a/b", HOUR).await.unwrap_err();
        assert!(matches!(&error, AuthorityError::Unavailable(reason) if reason.contains("127.0.0.1:1") && reason.contains("refused")), "{error}");
    })
    .await;
}

#[tokio::test]
async fn an_authority_that_cannot_prove_its_name_gets_no_token() {
    Lab::with(async |lab| {
        let other_name = remote::Config { server_name: "istiod.istio-system.svc".into(), ..lab.agent.clone() };
        let error = lab.asks_with(&other_name, "a/b", HOUR).await.unwrap_err().to_string();
        assert!(error.contains("not valid for name"), "{error}");
        let other_root = Record::create(&TrustDomain::default(), &TIMING, SystemTime::now()).unwrap();
        std::fs::write(&lab.agent.roots, other_root.bundle().unwrap()).unwrap();
        let error = lab.asks("a/b", HOUR).await.unwrap_err().to_string();
        assert!(error.contains("UnknownIssuer"), "{error}");
        std::fs::remove_file(&lab.agent.roots).unwrap();
        let error = lab.asks("a/b", HOUR).await.unwrap_err().to_string();
        assert!(error.contains("roots: No such file"), "{error}");
        assert!(!lab.metrics.page().unwrap().contains("outcome="), "nobody was asked");
    })
    .await;
}

#[tokio::test]
async fn a_signing_request_for_another_name_is_refused() {
    Lab::with(async |lab| {
        let key = PrivateKey::generate().unwrap();
        let request =
            SigningRequest { csr: key.request(&identity("a/c")).unwrap(), identity: identity("a/b"), lifetime: HOUR };
        let error = RemoteAuthority::new(lab.agent.clone()).sign(request).await.unwrap_err();
        assert!(
            matches!(&error, AuthorityError::Refused(reason) if reason.contains("names another identity")),
            "{error}"
        );
    })
    .await;
}
