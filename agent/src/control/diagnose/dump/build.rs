//! The dump, made from what the agent knows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::agent::{AgentConfig, CertificateFacts, CertificateLine, Counts, Dump, Kubelet, LogStatus, PodLine};
use super::mesh::{AuthorizationLine, LocalityLine, PeerAuthenticationLine, PolicyLine, ServiceLine, WorkloadLine};
use super::section::{Section, Sections};
use crate::control::enroll::status::{EnrolmentStatus, PodStatus};
use crate::control::kubelet::find::KubeletStatus;
use crate::drivers::certs::store::CertificateStatus;
use crate::mesh::source::state::MeshState;
use crate::model::enrolment::Enrolment;
use crate::model::policy::authentication::PeerAuthentication;
use crate::model::policy::authorization::{Action, AuthorizationPolicy};
use crate::model::service::Service;
use crate::model::view::MeshView;
use crate::model::workload::{OwnerKind, Workload};

/// What an agent knows at one moment.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What it was started with.
    pub config: AgentConfig,
    /// The mesh.
    pub mesh: Arc<MeshState>,
    /// The pods of this node.
    pub enrolment: Arc<EnrolmentStatus>,
    /// Where the kubelet is.
    pub kubelet: KubeletStatus,
    /// The certificates of this node.
    pub certificates: Vec<CertificateStatus>,
    /// What is waited for.
    pub pending: Vec<String>,
    /// The log.
    pub log: LogStatus,
    /// Since when the agent runs.
    pub started_at: Option<SystemTime>,
}

impl Known {
    /// The dump, with these sections.
    #[must_use]
    pub fn dump(&self, sections: &Sections, now: SystemTime) -> Dump {
        let view = &self.mesh.view;
        let asked = |section| sections.has(section);
        let policies = asked(Section::Policies);
        Dump {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: self.config.clone(),
            ready: self.pending.is_empty(),
            pending: self.pending.clone(),
            started_at: self.started_at.map(seconds).unwrap_or_default(),
            written_at: millis(now),
            state_version: self.mesh.version,
            state_loaded: self.mesh.loaded,
            state_since: self.mesh.made_at.map(millis),
            counts: self.counts(now),
            log: self.log.clone(),
            kubelet: Some(kubelet(&self.kubelet)),
            pods: asked(Section::Pods).then(|| self.enrolment.pods.iter().map(pod).collect()),
            workloads: asked(Section::Workloads).then(|| workloads(view, &self.config.cluster_id)),
            services: asked(Section::Services).then(|| services(view, &self.config.cluster_id)),
            policies: policies.then(|| sorted_authorization(view).map(|p| policy(p, view)).collect()),
            authorization_policies: policies.then(|| sorted_authorization(view).map(authorization).collect()),
            peer_authentications: policies.then(|| peer_authentications(view)),
            certificates: asked(Section::Certificates)
                .then(|| self.certificates.iter().map(|status| certificate(status, now)).collect()),
            problems: asked(Section::Problems).then(|| self.mesh.problems.iter().map(ToString::to_string).collect()),
        }
    }

    fn counts(&self, now: SystemTime) -> Counts {
        let view = &self.mesh.view;
        let carried = self.enrolment.pods.iter().filter(|pod| pod.enrolled).count();
        let valid = self.certificates.iter().filter(|status| is_valid(status, now)).count();
        let policies = view.policies();
        Counts {
            pods_carried: carried,
            pods_waiting: self.enrolment.pods.len() - carried,
            workloads: view.workloads().count(),
            services: view.services().count(),
            policies: policies.authorization_policies().count() + policies.peer_authentications().count(),
            certificates_valid: valid,
            certificates_missing: self.certificates.len() - valid,
            problems: self.mesh.problems.len(),
        }
    }
}

fn seconds(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

fn millis(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

fn kubelet(status: &KubeletStatus) -> Kubelet {
    Kubelet { cgroup: status.cgroup.clone(), id: status.id, problem: status.problem.clone() }
}

fn pod(status: &PodStatus) -> PodLine {
    PodLine {
        namespace: status.namespace.clone(),
        name: status.name.clone(),
        uid: status.uid.clone(),
        ips: status.ips.clone(),
        identity: status.identity.clone(),
        netns: status.netns.clone(),
        enrolled: status.enrolled,
        waiting_for: status.waiting_for.clone(),
    }
}

fn is_valid(status: &CertificateStatus, now: SystemTime) -> bool {
    status.certificate.as_ref().is_some_and(|certificate| certificate.not_after > now)
}

fn certificate(status: &CertificateStatus, now: SystemTime) -> CertificateLine {
    let state = match (&status.certificate, &status.last_error) {
        (Some(_), _) if is_valid(status, now) => "Available",
        (None, None) => "Initializing",
        (Some(_) | None, _) => "Unavailable",
    };
    let facts = status.certificate.iter().map(|certificate| CertificateFacts {
        serial_number: certificate.serial.clone(),
        valid_from: seconds(certificate.not_before),
        expiration_time: seconds(certificate.not_after),
    });
    CertificateLine {
        identity: status.identity.to_string(),
        state: state.to_owned(),
        cert_chain: facts.collect(),
        rotations: status.rotations,
        last_error: status.last_error.as_deref().map(str::to_owned),
    }
}

fn workloads(view: &MeshView, cluster: &str) -> Vec<WorkloadLine> {
    let mut lines: Vec<_> = view.workloads().map(|workload| line(workload, cluster)).collect();
    lines.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    lines
}

fn uid(workload: &Workload, cluster: &str) -> String {
    format!("{cluster}//Pod/{}", workload.pod)
}

fn line(workload: &Workload, cluster: &str) -> WorkloadLine {
    let kind = match workload.owner.kind {
        OwnerKind::CronJob => "cronjob",
        OwnerKind::Deployment => "deployment",
        OwnerKind::Job => "job",
        OwnerKind::Pod => "pod",
    };
    WorkloadLine {
        uid: uid(workload, cluster),
        namespace: workload.pod.namespace.to_string(),
        name: workload.pod.name.to_string(),
        node: workload.node.to_string(),
        workload_ips: workload.ips.clone(),
        protocol: if workload.is_enrolled() { "HBONE" } else { "TCP" }.to_owned(),
        identity: workload.identity.to_string(),
        trust_domain: workload.identity.trust_domain().to_string(),
        service_account: workload.identity.service_account().to_owned(),
        workload_name: workload.owner.name.to_string(),
        workload_type: kind.to_owned(),
        canonical_name: workload.canonical_name.to_string(),
        canonical_revision: workload.canonical_revision.to_string(),
        cluster_id: cluster.to_owned(),
        locality: LocalityLine {
            region: workload.locality.region.to_string(),
            zone: workload.locality.zone.to_string(),
        },
        enrolled: workload.is_enrolled(),
        reason: match workload.enrolment {
            Enrolment::Enrolled => None,
            Enrolment::Outside(reason) => Some(reason.to_string()),
        },
    }
}

fn services(view: &MeshView, cluster: &str) -> Vec<ServiceLine> {
    let mut lines: Vec<_> = view.services().map(|service| service_line(service, view, cluster)).collect();
    lines.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    lines
}

fn service_line(service: &Service, view: &MeshView, cluster: &str) -> ServiceLine {
    let mut line = ServiceLine {
        namespace: service.name.namespace.to_string(),
        name: service.name.name.to_string(),
        hostname: service.hostname(),
        vips: service.vips.iter().map(|vip| format!("/{vip}")).collect(),
        ..ServiceLine::default()
    };
    for port in &service.ports {
        // What most of its endpoints have cannot be said in one number; the first one's is as good as any.
        let target = port.endpoints.first().map_or(port.port, |endpoint| endpoint.address.port());
        line.ports.insert(port.port, target);
        if !port.name.is_empty() {
            line.port_names.insert(port.port, port.name.to_string());
        }
        for endpoint in &port.endpoints {
            let (key, workload_uid) = endpoint_key(endpoint.address, view, cluster);
            let entry = line.endpoints.entry(key).or_default();
            entry.workload_uid = workload_uid;
            entry.port.insert(port.port, endpoint.address.port());
            if !entry.addresses.contains(&endpoint.address.ip()) {
                entry.addresses.push(endpoint.address.ip());
            }
            let is_healthy = endpoint.ready && entry.status != "Unhealthy";
            entry.status = if is_healthy { "Healthy" } else { "Unhealthy" }.to_owned();
        }
    }
    line
}

fn endpoint_key(address: SocketAddr, view: &MeshView, cluster: &str) -> (String, String) {
    match view.workload_at(address.ip()) {
        Some(workload) => (uid(workload, cluster), uid(workload, cluster)),
        None => (address.ip().to_string(), String::new()),
    }
}

fn sorted_authorization(view: &MeshView) -> impl Iterator<Item = &AuthorizationPolicy> {
    let mut policies: Vec<_> = view.policies().authorization_policies().map(|policy| &**policy).collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    policies.into_iter()
}

fn policy(policy: &AuthorizationPolicy, view: &MeshView) -> PolicyLine {
    let scope = if !policy.selector.is_everything() {
        "WorkloadSelector"
    } else if *policy.name.namespace == *view.policies().root_namespace() {
        "Global"
    } else {
        "Namespace"
    };
    let action = match policy.action {
        Action::Allow => "Allow",
        Action::Deny => "Deny",
    };
    PolicyLine {
        namespace: policy.name.namespace.to_string(),
        name: policy.name.name.to_string(),
        action: action.to_owned(),
        scope: scope.to_owned(),
    }
}

fn authorization(policy: &AuthorizationPolicy) -> AuthorizationLine {
    AuthorizationLine {
        namespace: policy.name.namespace.to_string(),
        name: policy.name.name.to_string(),
        selector: policy.selector.0.clone(),
        action: policy.action.name().to_owned(),
        rules: policy.rules.len(),
        invalid: policy.is_closed,
    }
}

fn peer_authentications(view: &MeshView) -> Vec<PeerAuthenticationLine> {
    let mut policies: Vec<&PeerAuthentication> =
        view.policies().peer_authentications().map(|policy| &**policy).collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    let line = |policy: &PeerAuthentication| PeerAuthenticationLine {
        namespace: policy.name.namespace.to_string(),
        name: policy.name.name.to_string(),
        selector: policy.selector.0.clone(),
        mode: policy.mode.name().to_owned(),
        ports: policy.ports.iter().map(|(port, mode)| (*port, mode.name().to_owned())).collect(),
    };
    policies.into_iter().map(line).collect()
}
