//! The admin pages of a node agent.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;

use tokio::sync::watch;

use super::dump;
use super::observe::observe;
use crate::control::diagnose::answer::answer;
use crate::control::diagnose::question::Question;
use crate::control::enroll::status::EnrolmentStatus;
use crate::control::kubelet::find::KubeletStatus;
use crate::drivers::admin::server::{AdminServer, Page, Route};
use crate::drivers::certs::store::CertificateStore;
use crate::mesh::source::state::MeshState;
use crate::model::identity::TrustDomain;
use crate::runtime::ready::Readiness;
use crate::telemetry::metrics::{Format, Metrics};

/// The MIME type of metrics.
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
}

/// Where which pages are served.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// All pages. Says much of the mesh: for this machine alone.
    pub admin: SocketAddr,
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
    servers.push(AdminServer::bind(addresses.admin, routes(shown)).await.context("--admin-addr")?);
    Ok(servers)
}

fn ready_route(shown: &Shown) -> Route {
    let (readiness, certificates) = (shown.readiness.clone(), shown.certificates.clone());
    Route {
        path: "/healthz/ready",
        about: "200 once the agent carries its pods",
        page: Box::new(move |_| ready(&readiness, &certificates)),
    }
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
    Route { path, about, page: Box::new(move |query| metrics_page(&shown, Format::asked_for(query))) }
}

/// All pages.
fn routes(shown: Shown) -> Vec<Route> {
    let dumped = shown.clone();
    vec![
        ready_route(&shown),
        metrics_route(&shown),
        metrics_alias(&shown),
        Route {
            path: "/config_dump",
            about: "pods, workloads, services, policies, certificates and problems as JSON",
            page: Box::new(move |_| dump::page(&dumped)),
        },
        Route {
            path: "/explain",
            about: "whether a connection would be let in and why: ?from=NAMESPACE/POD&to=NAMESPACE/POD&port=N",
            page: Box::new(move |query| explain(&shown, query)),
        },
    ]
}

fn ready(readiness: &Readiness, certificates: &CertificateStore) -> Page {
    let mut pending = readiness.pending();
    let expired = certificates.expired();
    pending.extend(expired.iter().take(NAMED).map(ToString::to_string));
    if expired.len() > NAMED {
        pending.push(format!("{} more certificates that expired", expired.len() - NAMED));
    }
    ready_page(&pending)
}

/// 200, or 500 with what is still waited for.
pub(super) fn ready_page(pending: &[String]) -> Page {
    if pending.is_empty() {
        return Page::text(200, "ready\n");
    }
    Page::text(500, format!("not ready, pending: {}\n", pending.join(", ")))
}

fn metrics_page(shown: &Shown, format: Format) -> Page {
    observe(shown);
    match shown.metrics.page(format) {
        Ok(body) => Page { status: 200, content_type: format.content_type(), body },
        Err(error) => Page::text(500, format!("{error}\n")),
    }
}

fn explain(shown: &Shown, query: &str) -> Page {
    let question = match Question::parse(query) {
        Ok(question) => question,
        Err(error) => return Page::text(400, format!("{error}\n")),
    };
    let view = Arc::clone(&shown.mesh.borrow().view);
    match answer(&view, &shown.trust_domain, &question) {
        Ok(answer) => match serde_json::to_string_pretty(&answer) {
            Ok(body) => Page::json(body + "\n"),
            Err(error) => Page::text(500, format!("{error}\n")),
        },
        Err(error) => Page::text(404, format!("{error}\n")),
    }
}
