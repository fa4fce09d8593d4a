//! `/config_dump`: what the agent knows, as JSON.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::pages::Shown;
use crate::drivers::admin::server::Page;
use crate::drivers::certs::store::CertificateStatus;
use crate::model::policy::authentication::PeerAuthentication;
use crate::model::policy::authorization::AuthorizationPolicy;

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

/// The page.
pub(super) fn page(shown: &Shown) -> Page {
    let state = Arc::clone(&shown.mesh.borrow());
    let mut workloads: Vec<_> = state.view.workloads().map(|w| workload_line(w)).collect();
    workloads.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let mut services: Vec<_> = state.view.services().map(|s| service_line(s)).collect();
    services.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let mut peers: Vec<_> = state.view.policies().peer_authentications().collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    let peers: Vec<_> = peers.into_iter().map(|policy| peer_line(policy)).collect();
    let mut authorization: Vec<_> = state.view.policies().authorization_policies().collect();
    authorization.sort_by(|a, b| a.name.cmp(&b.name));
    let authorization: Vec<_> = authorization.into_iter().map(|policy| authorization_line(policy)).collect();
    let problems: Vec<_> = state.problems.iter().map(ToString::to_string).collect();
    let certificates: Vec<_> = shown.certificates.snapshot().into_iter().map(certificate_line).collect();
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "stateVersion": state.version,
        "stateLoaded": state.loaded,
        "stateSince": state.made_at.map(|at| humantime::format_rfc3339_millis(at).to_string()),
        "pods": shown.enrolment.borrow().pods,
        "kubelet": &*shown.kubelet.borrow(),
        "workloads": workloads,
        "services": services,
        "peerAuthentications": peers,
        "authorizationPolicies": authorization,
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

fn peer_line(policy: &PeerAuthentication) -> serde_json::Value {
    let ports: serde_json::Map<_, _> =
        policy.ports.iter().map(|(port, mode)| (port.to_string(), mode.name().into())).collect();
    json!({
        "namespace": &*policy.name.namespace,
        "name": &*policy.name.name,
        "selector": policy.selector.0,
        "mode": policy.mode.name(),
        "ports": ports,
    })
}

fn authorization_line(policy: &AuthorizationPolicy) -> serde_json::Value {
    json!({
        "namespace": &*policy.name.namespace,
        "name": &*policy.name.name,
        "selector": policy.selector.0,
        "action": policy.action.name(),
        "rules": policy.rules.len(),
        "invalid": policy.is_closed,
    })
}
