//! Pods to workloads.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::mesh::source::field::{FieldPath, shorten};
use crate::mesh::source::objects::pod::Pod;
use crate::mesh::source::problem::Fault;
use crate::mesh::source::shared::Shared;
use crate::model::enrolment::{Candidate, DATAPLANE_MODE_LABEL, decide};
use crate::model::identity::{Identity, TrustDomain};
use crate::model::workload::{Locality, ObjectName, Workload};

use super::mesh::Rules;
use super::owner::owner;
use super::{annotations, value};

/// What a pod inherits from the objects around it.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings<'a> {
    /// [`DATAPLANE_MODE_LABEL`] on the namespace.
    pub(super) namespace_mode: Option<&'a str>,
    /// Where its node is.
    pub(super) locality: Locality,
}

/// The workload that a pod is.
pub(super) fn workload(
    pod: &Pod,
    around: Surroundings<'_>,
    rules: &Rules,
    shared: &mut Shared,
) -> Result<Workload, Fault> {
    let metadata = &pod.metadata;
    let namespace = metadata.namespace_or_default();
    let name = ObjectName { namespace: shared.text(namespace), name: metadata.name.as_str().into() };
    let owner = owner(pod, &name, shared);
    let finished = pod.is_finished();
    let first_label = |keys: &[&str]| keys.iter().find_map(|key| metadata.label(key));
    let uid = if metadata.uid.is_empty() { name.to_string().into() } else { metadata.uid.as_str().into() };
    let canonical_name = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
    let canonical_revision = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
    let enrolment = decide(&Candidate {
        namespace,
        namespace_mode: around.namespace_mode,
        pod_mode: metadata.label(DATAPLANE_MODE_LABEL),
        host_network: pod.spec.host_network,
        has_sidecar: metadata.annotations.contains_key(annotations::SIDECAR),
        finished,
    });
    Ok(Workload {
        // The address of a pod that has finished may already be another pod's.
        ips: if finished { Vec::new() } else { addresses(pod)? },
        node: shared.text(&pod.spec.node_name),
        identity: shared.identity(identity(pod, &rules.trust_domain)?),
        canonical_name: first_label(&canonical_name).map_or_else(|| Arc::clone(&owner.name), |name| shared.text(name)),
        canonical_revision: shared.text(first_label(&canonical_revision).unwrap_or("latest")),
        app: shared.text(metadata.label("app").unwrap_or_default()),
        version: shared.text(metadata.label("version").unwrap_or_default()),
        locality: around.locality,
        labels: metadata.labels.clone(),
        host_network: pod.spec.host_network,
        netns: if rules.netns_annotation { netns(pod)? } else { None },
        pod: name,
        uid,
        owner,
        enrolment,
    })
}

/// All addresses of a pod, the primary one first, each once.
pub(super) fn addresses(pod: &Pod) -> Result<Vec<IpAddr>, Fault> {
    let mut ips = Vec::new();
    let status = FieldPath::of("status");
    let primary = (status.clone().key("podIP"), &pod.status.pod_ip);
    let all = pod.status.pod_ips.iter().enumerate();
    let all = all.map(|(i, entry)| (status.clone().key("podIPs").index(i).key("ip"), &entry.ip));
    for (field, text) in std::iter::once(primary).chain(all).filter(|(_, text)| !text.is_empty()) {
        let ip = value::address(text, field)?;
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    ips.shrink_to_fit();
    Ok(ips)
}

/// Who the pod is.
pub(super) fn identity(pod: &Pod, trust_domain: &TrustDomain) -> Result<Identity, Fault> {
    let spec = &pod.spec;
    let (field, account) = match (spec.service_account_name.as_str(), spec.service_account.as_str()) {
        ("", "") => ("spec.serviceAccountName", "default"),
        ("", account) => ("spec.serviceAccount", account),
        (account, _) => ("spec.serviceAccountName", account),
    };
    let fault = |message: String| Fault::new(FieldPath::of(field), message);
    if !value::is_subdomain(account) {
        return Err(fault(format!("{:?} is not a valid name: {}", shorten(account), value::SUBDOMAIN)));
    }
    let namespace = pod.metadata.namespace_or_default();
    Identity::new(trust_domain.clone(), namespace, account).map_err(|error| fault(error.to_string()))
}

/// The path of the pod's network namespace, if an annotation gives it.
pub(super) fn netns(pod: &Pod) -> Result<Option<PathBuf>, Fault> {
    let Some(path) = pod.metadata.annotations.get(annotations::NETNS) else {
        return Ok(None);
    };
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
    let valid = path.len() <= 4095 && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain));
    if !valid {
        let field = FieldPath::of("metadata.annotations").key(annotations::NETNS);
        let message =
            format!("{:?} is not an absolute path without \".\" and \"..\", like /run/netns/NAME", shorten(path));
        return Err(Fault::new(field, message));
    }
    Ok(Some(PathBuf::from(path)))
}
