//! The admin pages of a node agent.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;

use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;

use crate::control::enroll::status::EnrolmentStatus;
use crate::drivers::admin::server::{AdminServer, Page, Route};
use crate::drivers::certs::store::{CertificateStatus, CertificateStore};
use crate::mesh::source::state::MeshState;
use crate::runtime::ready::Readiness;
use crate::telemetry::metrics::Metrics;

/// The MIME type of metrics.
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages show.
#[derive(Clone)]
pub struct Shown {
    /// The mesh as the agent knows it.
    pub mesh: watch::Receiver<Arc<MeshState>>,
    /// The pods of this node.
    pub enrolment: watch::Receiver<Arc<EnrolmentStatus>>,
    /// The certificates of this node.
    pub certificates: CertificateStore,
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
        let page = vec![metrics_route(&shown)];
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
        page: Box::new(move || ready(&readiness, &certificates)),
    }
}

fn metrics_route(shown: &Shown) -> Route {
    let metrics = Arc::clone(&shown.metrics);
    Route {
        path: "/metrics",
        about: "metrics in OpenMetrics text format",
        page: Box::new(move || metrics_page(&metrics)),
    }
}

/// All pages.
fn routes(shown: Shown) -> Vec<Route> {
    vec![
        ready_route(&shown),
        metrics_route(&shown),
        Route {
            path: "/config_dump",
            about: "pods, workloads, services, certificates and problems as JSON",
            page: Box::new(move || dump(&shown)),
        },
    ]
}

fn ready(readiness: &Readiness, certificates: &CertificateStore) -> Page {
    let mut pending: Vec<String> = readiness.pending().into_iter().map(str::to_owned).collect();
    pending.extend(certificates.expired().map(|error| error.to_string()));
    ready_page(&pending)
}

/// 200, or 500 with what is still waited for.
pub(super) fn ready_page(pending: &[String]) -> Page {
    if pending.is_empty() {
        return Page::text(200, "ready\n");
    }
    Page::text(500, format!("not ready, pending: {}\n", pending.join(", ")))
}

fn metrics_page(metrics: &Metrics) -> Page {
    match metrics.page() {
        Ok(body) => Page { status: 200, content_type: OPENMETRICS, body },
        Err(error) => Page::text(500, format!("{error}\n")),
    }
}

#[derive(Serialize)]
struct WorkloadLine {
    namespace: String,
    name: String,
    node: String,
    ips: Vec<std::net::IpAddr>,
    identity: String,
    enrolled: bool,
    reason: Option<String>,
}

#[derive(Serialize)]
struct ServiceLine {
    namespace: String,
    name: String,
    vips: Vec<std::net::IpAddr>,
    ports: Vec<serde_json::Value>,
}

fn dump(shown: &Shown) -> Page {
    let state = Arc::clone(&shown.mesh.borrow());
    let mut workloads: Vec<_> = state.view.workloads().map(|w| workload_line(w)).collect();
    workloads.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let mut services: Vec<_> = state.view.services().map(|s| service_line(s)).collect();
    services.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let problems: Vec<_> = state.problems.iter().map(ToString::to_string).collect();
    let certificates: Vec<_> = shown.certificates.snapshot().into_iter().map(certificate_line).collect();
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "stateVersion": state.version,
        "stateLoaded": state.loaded,
        "stateSince": state.made_at.map(|at| humantime::format_rfc3339_millis(at).to_string()),
        "pods": shown.enrolment.borrow().pods,
        "workloads": workloads,
        "services": services,
        "certificates": certificates,
        "problems": problems,
    });
    Page::json(format!("{body:#}\n"))
}

fn certificate_line(status: CertificateStatus) -> serde_json::Value {
    let time = |at| humantime::format_rfc3339_seconds(at).to_string();
    json!({
        "identity": status.identity.to_string(),
        "serial": status.certificate.as_ref().map(|c| c.serial.as_str()),
        "notBefore": status.certificate.as_ref().map(|c| time(c.not_before)),
        "notAfter": status.certificate.as_ref().map(|c| time(c.not_after)),
        "rotations": status.rotations,
        "lastError": status.last_error.as_deref(),
    })
}

fn workload_line(workload: &crate::model::workload::Workload) -> WorkloadLine {
    use crate::model::enrolment::Enrolment;
    WorkloadLine {
        namespace: workload.pod.namespace.to_string(),
        name: workload.pod.name.to_string(),
        node: workload.node.to_string(),
        ips: workload.ips.clone(),
        identity: workload.identity.to_string(),
        enrolled: workload.is_enrolled(),
        reason: match workload.enrolment {
            Enrolment::Enrolled => None,
            Enrolment::Outside(reason) => Some(reason.to_string()),
        },
    }
}

fn service_line(service: &crate::model::service::Service) -> ServiceLine {
    let port = |p: &Arc<crate::model::service::ServicePort>| {
        let endpoints: Vec<_> =
            p.endpoints.iter().map(|e| json!({ "address": e.address.to_string(), "ready": e.ready })).collect();
        json!({ "port": p.port, "name": &*p.name, "endpoints": endpoints })
    };
    ServiceLine {
        namespace: service.name.namespace.to_string(),
        name: service.name.name.to_string(),
        vips: service.vips.clone(),
        ports: service.ports.iter().map(port).collect(),
    }
}
