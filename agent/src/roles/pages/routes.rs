//! Where which page of a node agent is served.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, ensure};

use tokio::sync::watch;

use super::connections::{self, Tables};
use super::observe::observe;
use super::{dump, logging, profiles};
use crate::control::diagnose::dump::agent::AgentConfig;
use crate::control::diagnose::dump::build::Known;
use crate::control::diagnose::explain::answer::{Knowledge, answer};
use crate::control::diagnose::explain::question::Question;
use crate::control::enroll::status::EnrolmentStatus;
use crate::control::kubelet::find::KubeletStatus;
use crate::drivers::admin::server::{AdminServer, Page, Route};
use crate::drivers::certs::store::CertificateStore;
use crate::mesh::source::state::MeshState;
use crate::model::identity::TrustDomain;
use crate::runtime::ready::Readiness;
use crate::telemetry::log::LogControl;
use crate::telemetry::metrics::{Format, Metrics};

/// The MIME type of metrics.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Certificates that are named when they keep an agent from being ready.
const NAMED: usize = 5;

/// What the pages show.
#[derive(Clone)]
pub struct Shown {
    /// The mesh as the agent knows it.
    pub mesh: watch::Receiver<Arc<MeshState>>,
    /// The pods of this node.
    pub enrolment: watch::Receiver<Arc<EnrolmentStatus>>,
    /// Where the kubelet is.
    pub kubelet: watch::Receiver<KubeletStatus>,
    /// The certificates of this node.
    pub certificates: CertificateStore,
    /// Whose identities are accepted.
    pub trust_domain: TrustDomain,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is waited for.
    pub readiness: Readiness,
    /// What the agent was started with.
    pub config: Arc<AgentConfig>,
    /// What is logged.
    pub log: LogControl,
    /// The tables of open connections.
    pub tables: Tables,
    /// Since when the agent runs.
    pub started_at: SystemTime,
}

/// Where which pages are served.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// All pages. Says much of the mesh, and changes what is logged: for this machine alone.
    pub admin: SocketAddr,
    /// Whether `admin` may be reached from elsewhere nevertheless.
    pub admin_from_anywhere: bool,
    /// `/metrics` alone, for a collector that comes from elsewhere.
    pub metrics: Option<SocketAddr>,
    /// `/healthz/ready` alone, for the kubelet.
    pub ready: Option<SocketAddr>,
}

/// Takes all addresses.
///
/// # Errors
/// When one is taken or not this machine's, naming the flag that chooses it.
pub async fn bind(addresses: &Addresses, shown: Shown) -> anyhow::Result<Vec<AdminServer>> {
    if !addresses.admin.ip().is_loopback() {
        ensure!(
            addresses.admin_from_anywhere,
            "--admin-addr {}: whoever reaches it learns all about the mesh, so it has to be a loopback address; \
             --admin-from-anywhere overrules this",
            addresses.admin
        );
        tracing::warn!(address = %addresses.admin, "the admin pages are reachable from outside this machine");
    }
    let mut servers = Vec::new();
    if let Some(address) = addresses.metrics {
        let page = vec![metrics_route(&shown), metrics_alias(&shown)];
        servers.push(AdminServer::bind(address, page).await.context("--metrics-addr")?);
    }
    if let Some(address) = addresses.ready {
        servers.push(AdminServer::bind(address, vec![ready_route(&shown)]).await.context("--ready-addr")?);
    }
    let all = AdminServer::bind(addresses.admin, routes(shown)).await.context("--admin-addr")?;
    servers.push(all.for_this_machine());
    Ok(servers)
}

fn ready_route(shown: &Shown) -> Route {
    let (readiness, certificates) = (shown.readiness.clone(), shown.certificates.clone());
    Route::new("/healthz/ready", "200 once the agent carries its pods", move |_| ready(&readiness, &certificates))
}

fn metrics_route(shown: &Shown) -> Route {
    metrics_at("/metrics", "metrics in Prometheus' text format; ?format=openmetrics", shown)
}

/// Where Istio's proxies have it.
fn metrics_alias(shown: &Shown) -> Route {
    metrics_at("/stats/prometheus", "the same", shown)
}

fn metrics_at(path: &'static str, about: &'static str, shown: &Shown) -> Route {
    let shown = shown.clone();
    Route::new(path, about, move |query| metrics_page(&shown, Format::asked_for(query)))
}

/// All pages.
fn routes(shown: Shown) -> Vec<Route> {
    let (dumped, tables, log) = (shown.clone(), shown.tables.clone(), shown.log.clone());
    let about_dump = "what the agent knows, as JSON: ?sections=pods,workloads,services,policies,certificates,problems";
    let about_explain = "whether a connection would work, and why: ?from=NAMESPACE/POD&to=NAMESPACE/POD&port=N";
    let about_connections = "open connections, as JSON: ?pod=&namespace=&direction=&peer=&port=&limit=&after=";
    let mut routes = vec![
        ready_route(&shown),
        metrics_route(&shown),
        metrics_alias(&shown),
        Route::made_by("/config_dump", about_dump, move |query| dump::page(&dumped, query)),
        Route::made_by("/connections", about_connections, move |query| connections::page(&tables, query)),
        Route::new("/explain", about_explain, move |query| explain(&shown, query)),
        logging::route(log),
    ];
    routes.extend(profiles::routes());
    routes
}

impl Shown {
    /// All that is known at this moment.
    pub(super) fn known(&self) -> Known {
        Known {
            config: AgentConfig::clone(&self.config),
            mesh: Arc::clone(&self.mesh.borrow()),
            enrolment: Arc::clone(&self.enrolment.borrow()),
            kubelet: self.kubelet.borrow().clone(),
            certificates: self.certificates.snapshot(),
            pending: pending(&self.readiness, &self.certificates),
            log: logging::status(&self.log),
            started_at: Some(self.started_at),
        }
    }
}

fn ready(readiness: &Readiness, certificates: &CertificateStore) -> Page {
    ready_page(&pending(readiness, certificates))
}

fn pending(readiness: &Readiness, certificates: &CertificateStore) -> Vec<String> {
    let mut pending = readiness.pending();
    let expired = certificates.expired();
    pending.extend(expired.iter().take(NAMED).map(ToString::to_string));
    if expired.len() > NAMED {
        pending.push(format!("{} more certificates that expired", expired.len() - NAMED));
    }
    pending
}

/// 200, or 500 with what is still waited for.
#[must_use]
pub fn ready_page(pending: &[String]) -> Page {
    if pending.is_empty() {
        return Page::text(200, "ready\n");
    }
    Page::text(500, format!("not ready, pending: {}\n", pending.join(", ")))
}

fn metrics_page(shown: &Shown, format: Format) -> Page {
    observe(shown);
    match shown.metrics.page(format) {
        Ok(body) => Page::new(200, format.content_type(), body),
        Err(error) => Page::text(500, format!("{error}\n")),
    }
}

fn explain(shown: &Shown, query: &str) -> Page {
    let question = match Question::parse(query) {
        Ok(question) => question,
        Err(error) => return Page::text(400, format!("{error}\n")),
    };
    let (known, now) = (shown.known(), SystemTime::now());
    let known = Knowledge {
        view: &known.mesh.view,
        trust_domain: &shown.trust_domain,
        node: &known.config.node,
        enrolment: &known.enrolment,
        certificates: &known.certificates,
        now,
    };
    match answer(&known, &question) {
        Ok(answer) => match serde_json::to_string_pretty(&answer) {
            Ok(body) => Page::json(body + "\n"),
            Err(error) => Page::text(500, format!("{error}\n")),
        },
        Err(error) => Page::text(404, format!("{error}\n")),
    }
}
