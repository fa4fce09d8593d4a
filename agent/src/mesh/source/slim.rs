//! Makes an object that is kept small: a source keeps each for as long as it is there.

use super::objects::endpoint_slice::EndpointSlice;
use super::objects::kind::Object;
use super::objects::pod::Pod;
use super::shared::Shared;

/// Drops what no rule reads of an object that is good and room for more than it has; labels that others have too are shared with them.
pub(super) fn slim(object: &mut Object, shared: &mut Shared) {
    let metadata = object.metadata_mut();
    metadata.labels = shared.labels(&metadata.labels);
    metadata.owner_references.retain(|owner| owner.controller);
    metadata.owner_references.shrink_to_fit();
    if let Object::Pod(pod) = object {
        slim_pod(pod);
    } else if let Object::EndpointSlice(slice) = object {
        slim_slice(slice);
    }
}

/// Of containers their named ports count, of conditions `Ready`, and of addresses each once.
fn slim_pod(pod: &mut Pod) {
    let containers = &mut pod.spec.containers;
    containers.iter_mut().for_each(|container| {
        container.ports.retain(|port| !port.name.is_empty());
        container.ports.shrink_to_fit();
    });
    containers.retain(|container| !container.ports.is_empty());
    containers.shrink_to_fit();
    let status = &mut pod.status;
    status.pod_ips.retain(|entry| entry.ip != status.pod_ip);
    status.pod_ips.shrink_to_fit();
    status.conditions.retain(|condition| condition.kind == "Ready");
    status.conditions.shrink_to_fit();
}

fn slim_slice(slice: &mut EndpointSlice) {
    slice.endpoints.iter_mut().for_each(|endpoint| endpoint.addresses.shrink_to_fit());
    slice.endpoints.shrink_to_fit();
    slice.ports.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeSeed as _;
    use serde_json::json;

    use super::*;
    use crate::mesh::source::objects::kind::Kind;

    #[test]
    fn what_rules_read_of_a_pod_stays_and_the_rest_goes() {
        let pod = json!({
            "metadata": {"name": "web", "labels": {"app": "web"}, "ownerReferences": [
                {"kind": "Other", "name": "o"}, {"kind": "ReplicaSet", "name": "web-1", "controller": true}]},
            "spec": {"containers": [{"ports": [{"containerPort": 1}]}, {"ports": [{"name": "http", "containerPort": 80}]}]},
            "status": {
                "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "False"}],
            },
        });
        let mut shared = Shared::default();
        let [mut one, mut other] = [&pod, &pod].map(|pod| Kind::Pod.deserialize(pod).unwrap());
        slim(&mut one, &mut shared);
        slim(&mut other, &mut shared);
        assert_eq!(one, other);
        assert!(one.metadata().labels.is_same(&other.metadata().labels));
        let Object::Pod(pod) = one else { panic!("no pod") };
        assert!(!pod.is_ready());
        assert_eq!((pod.spec.containers.len(), pod.spec.containers[0].ports[0].name.as_str()), (1, "http"));
        assert_eq!((pod.status.pod_ips.len(), pod.status.pod_ips[0].ip.as_str()), (1, "fd00::1"));
        assert_eq!((pod.metadata.owner_references.len(), pod.metadata.owner_references.capacity()), (1, 1));
        assert_eq!((pod.status.conditions.len(), pod.status.conditions.capacity()), (1, 1));
    }

    #[test]
    fn an_object_takes_no_more_room_than_its_kind_needs() {
        assert!(size_of::<Object>() <= 16, "every entry of every source has one");
    }
}
