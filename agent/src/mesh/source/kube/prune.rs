//! Drops what nobody asks of an object: most of its bytes, and most of the reasons for which it changes.

use std::sync::Arc;

use crate::mesh::source::convert::annotations::is_read;
use crate::mesh::source::objects::endpoint_slice::SERVICE_NAME_LABEL;
use crate::mesh::source::objects::kind::Object;
use crate::mesh::source::objects::meta::ObjectMeta;
use crate::model::enrolment::DATAPLANE_MODE_LABEL;

/// Drops what nobody asks of this object.
pub(super) fn prune(object: &mut Object) {
    match object {
        Object::Namespace(namespace) => thin(&mut namespace.metadata, |label| label == DATAPLANE_MODE_LABEL),
        Object::Node(node) => {
            thin(&mut node.metadata, |label| {
                label.contains("topology.kubernetes.io/") || label.contains("failure-domain")
            });
        }
        Object::ServiceAccount(account) => thin(&mut account.metadata, |_| false),
        Object::Pod(pod) => {
            // All labels stay, for the selectors of policies.
            let uid = std::mem::take(&mut pod.metadata.uid);
            let deleted = pod.metadata.deletion_timestamp.take();
            let mut owners = std::mem::take(&mut pod.metadata.owner_references);
            owners.retain(|owner| owner.controller);
            thin(&mut pod.metadata, |_| true);
            pod.metadata.uid = uid;
            pod.metadata.owner_references = owners;
            pod.metadata.deletion_timestamp = deleted;
            // Named ports and readiness are in the EndpointSlices already.
            pod.spec.containers = Vec::new();
            pod.status.conditions = Vec::new();
        }
        Object::Service(service) => {
            thin(&mut service.metadata, |_| false);
            service.spec.selector.clear();
        }
        Object::EndpointSlice(slice) => {
            thin(&mut slice.metadata, |label| label == SERVICE_NAME_LABEL);
            for endpoint in &mut slice.endpoints {
                endpoint.topology.clear();
                endpoint.node_name = String::new();
            }
        }
        Object::PeerAuthentication(policy) => thin(&mut policy.metadata, |_| false),
        Object::AuthorizationPolicy(policy) => thin(&mut policy.metadata, |_| false),
    }
}

/// Keeps names, date, these labels, and annotations that some rule reads.
fn thin(metadata: &mut ObjectMeta, keep_label: impl Fn(&str) -> bool) {
    metadata.uid = String::new();
    metadata.owner_references = Vec::new();
    metadata.deletion_timestamp = None;
    if !metadata.labels.iter().all(|(key, _)| keep_label(key)) {
        let kept = metadata.labels.iter().filter(|(key, _)| keep_label(key));
        metadata.labels = kept.map(|(key, value)| (Arc::clone(key), Arc::clone(value))).collect();
    }
    metadata.annotations.retain(|key, _| is_read(key));
    for (key, value) in &mut metadata.annotations {
        // A sidecar's annotation is a long text of which only its being there counts.
        if key == crate::mesh::source::convert::annotations::SIDECAR {
            *value = String::new();
        }
    }
}
