//! Which kinds are followed, and how they are called.

use crate::drivers::cluster::resource::Resource;
use crate::mesh::source::objects::kind::Kind;

/// A kind, where it is, and what readiness says while its first list is not complete.
pub(super) struct Followed {
    pub(super) kind: Kind,
    pub(super) resource: Resource,
    pub(super) pending: &'static str,
}

const CORE: &[&str] = &["v1"];
const STABLE_AND_BETA: &[&str] = &["v1", "v1beta1"];
const ISTIO: &str = "security.istio.io";

const fn core(kind: Kind, plural: &'static str, pending: &'static str) -> Followed {
    Followed { kind, resource: Resource { group: "", versions: CORE, plural }, pending }
}

const fn grouped(kind: Kind, group: &'static str, plural: &'static str, pending: &'static str) -> Followed {
    Followed { kind, resource: Resource { group, versions: STABLE_AND_BETA, plural }, pending }
}

/// All of them. Service accounts are not: pods name theirs.
pub(super) const FOLLOWED: [Followed; 7] = [
    core(Kind::Namespace, "namespaces", "list of Namespaces"),
    core(Kind::Node, "nodes", "list of Nodes"),
    core(Kind::Pod, "pods", "list of Pods"),
    core(Kind::Service, "services", "list of Services"),
    grouped(Kind::EndpointSlice, "discovery.k8s.io", "endpointslices", "list of EndpointSlices"),
    grouped(Kind::PeerAuthentication, ISTIO, "peerauthentications", "list of PeerAuthentications"),
    grouped(Kind::AuthorizationPolicy, ISTIO, "authorizationpolicies", "list of AuthorizationPolicies"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_that_is_asked_for_is_one_that_can_be_read() {
        for Followed { kind, resource, .. } in FOLLOWED {
            for version in resource.versions {
                let group = resource.group;
                let full = if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") };
                assert!(kind.api_versions().contains(&full.as_str()), "{kind} {full}");
            }
        }
    }
}
