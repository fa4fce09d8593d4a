//! The admin pages of a node agent.

use std::sync::Arc;

use tokio::sync::watch;

use super::dump;
use crate::control::diagnose::answer::answer;
use crate::control::diagnose::question::Question;
use crate::control::enroll::status::EnrolmentStatus;
use crate::control::kubelet::find::KubeletStatus;
use crate::drivers::admin::server::{Page, Route};
use crate::drivers::certs::store::CertificateStore;
use crate::mesh::source::state::MeshState;
use crate::model::identity::TrustDomain;
use crate::runtime::ready::Readiness;
use crate::telemetry::metrics::Metrics;

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

/// All pages.
#[must_use]
pub fn routes(shown: Shown) -> Vec<Route> {
    let readiness = shown.readiness.clone();
    let metrics = Arc::clone(&shown.metrics);
    let dumped = shown.clone();
    vec![
        Route {
            path: "/healthz/ready",
            about: "200 once the agent carries its pods",
            page: Box::new(move |_| ready(&readiness)),
        },
        Route {
            path: "/metrics",
            about: "metrics in OpenMetrics text format",
            page: Box::new(move |_| metrics_page(&metrics)),
        },
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

fn ready(readiness: &Readiness) -> Page {
    let pending = readiness.pending();
    if pending.is_empty() {
        return Page::text(200, "ready\n");
    }
    Page::text(500, format!("not ready, pending: {}\n", pending.join(", ")))
}

fn metrics_page(metrics: &Metrics) -> Page {
    match metrics.page() {
        Ok(body) => {
            Page { status: 200, content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8", body }
        }
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
