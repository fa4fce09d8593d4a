//! `sotto controller`: the certificate authority of a cluster. Every replica issues certificates; one keeps the root.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::pages::routes;
use super::signals::EndingSignals;
use crate::control::authority::issue::authorize::Rules;
use crate::control::authority::issue::listener;
use crate::control::authority::issue::service::{self, Issuance};
use crate::control::authority::issue::witness::ApiServer;
use crate::control::authority::root::keeper::{self, Keeper, Outputs};
use crate::control::authority::root::lead;
use crate::control::authority::root::rotation::Timing;
use crate::control::authority::root::signer::Signer;
use crate::drivers::admin::server::{AdminServer, Page, Route};
use crate::drivers::certs::ca::serving::ServingCertificate;
use crate::drivers::certs::clock::Clock;
use crate::drivers::certs::tls::service::ServiceConfig;
use crate::drivers::cluster::Cluster;
use crate::drivers::grpc::server;
use crate::runtime::ready::Readiness;
use crate::telemetry::authority::AuthorityMetrics;

/// The Lease that replicas elect their leader by.
const LEASE: &str = "sotto-controller";

/// What the role runs with.
#[derive(Debug)]
pub struct Config {
    /// How to reach Kubernetes, if not as the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// The namespace of all objects.
    pub namespace: String,
    /// A name that no other process has or had.
    pub replica: String,
    /// Where certificates are issued.
    pub listen: SocketAddr,
    /// Where the admin pages are served.
    pub admin: SocketAddr,
    /// DNS names of the service.
    pub names: Vec<String>,
    /// Audiences of callers' tokens.
    pub audiences: Vec<String>,
    /// Who may have what.
    pub rules: Rules,
    /// The Secret of a plugged-in authority.
    pub plugged_secret: String,
    /// The Secret of our own authority.
    pub own_secret: String,
    /// The ConfigMap of the roots.
    pub root_config_map: String,
    /// The durations of a rotation.
    pub timing: Timing,
    /// How often Secrets are looked at.
    pub refresh: Duration,
    /// How long a key is used without a look.
    pub patience: Duration,
    /// How long leadership is held at a time.
    pub lease_duration: Duration,
    /// How long requests may go on at the end.
    pub drain: Duration,
}

/// Runs until a signal ends it.
///
/// # Errors
/// When the controller cannot start.
pub fn run(config: Config) -> anyhow::Result<()> {
    tracing::info!(replica = config.replica, version = env!("CARGO_PKG_VERSION"), "controller starts");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config));
    // Connections that outlived the drain are driven by tasks of the gRPC library; they end here.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let cluster = Cluster::connect(config.kubeconfig.as_deref()).await?;
    let (metrics, clock) = (AuthorityMetrics::new(), Clock::system());
    let serving = ServingCertificate::new();
    let (signer_sender, signer) = watch::channel(Signer::missing("the root was not looked at so far"));
    let (leads_sender, leads) = watch::channel(false);
    let outputs = Outputs { signer: signer_sender, serving: serving.clone(), metrics: metrics.clone() };
    let keeper = Keeper::new(cluster.clone(), keeper_config(&config, clock.clone()), outputs, leads);
    let lease = lead::Config {
        namespace: config.namespace.clone(),
        name: LEASE.to_owned(),
        me: config.replica.clone(),
        duration: config.lease_duration,
    };
    let witness = Arc::new(ApiServer::new(cluster.clone(), config.audiences.clone()));
    let settings = service::Config { rules: config.rules.clone(), max_lifetime: config.timing.max_leaf, clock };
    let issuance = Arc::new(Issuance::new(settings, witness, signer.clone(), metrics.clone()));
    let readiness = Readiness::new();
    let admin = AdminServer::bind(config.admin, routes(&readiness, signer, metrics)).await?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listening on {}; choose another address with --listen", config.listen))?;
    tracing::info!(address = %config.listen, "issues certificates");
    let connections = listener::connections(listener, ServiceConfig::new(&serving, &[b"h2"]));

    let mut signals = EndingSignals::listen().context("listening for signals")?;
    let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
    let issue = async {
        let served = server::serve(connections, issuance, stop.cancelled());
        let ended = async {
            stop.cancelled().await;
            tokio::time::sleep(config.drain).await;
        };
        let result = tokio::select! {
            result = served => result,
            () = ended => Ok(()),
        };
        // Without the server there is nothing left to do.
        stop.cancel();
        stopped.cancel();
        result
    };
    let ending = async {
        tokio::select! {
            () = signals.next() => tracing::info!(deadline = ?config.drain, "controller ends: no new connections, open requests may finish"),
            () = stop.cancelled() => {}
        }
        let _draining = readiness.wait_for("drain");
        stop.cancel();
        stopped.cancelled().await;
    };
    let (result, (), (), _, ()) = tokio::join!(
        issue,
        ending,
        lead::run(&cluster, &lease, &leads_sender, stop.cancelled()),
        stopped.run_until_cancelled(keeper.run()),
        admin.serve(stopped.cancelled()),
    );
    tracing::info!("controller ended");
    Ok(result?)
}

fn keeper_config(config: &Config, clock: Clock) -> keeper::Config {
    keeper::Config {
        namespace: config.namespace.clone(),
        plugged_secret: config.plugged_secret.clone(),
        own_secret: config.own_secret.clone(),
        roots_config_map: config.root_config_map.clone(),
        trust_domain: config.rules.trust_domain.clone(),
        timing: config.timing,
        every: config.refresh,
        patience: config.patience,
        names: config.names.clone(),
        clock,
    }
}

fn routes(readiness: &Readiness, signer: watch::Receiver<Signer>, metrics: AuthorityMetrics) -> Vec<Route> {
    let readiness = readiness.clone();
    let ready = move |_: &str| {
        let mut pending: Vec<String> = readiness.pending();
        pending.extend(signer.borrow().unusable(Instant::now()));
        routes::ready_page(&pending)
    };
    let metrics = move |_: &str| match metrics.page() {
        Ok(body) => Page::new(200, routes::OPENMETRICS, body),
        Err(error) => Page::text(500, format!("{error}\n")),
    };
    vec![
        Route::new("/healthz/ready", "200 once certificates can be issued", ready),
        Route::new("/metrics", "metrics in OpenMetrics text format", metrics),
    ]
}
