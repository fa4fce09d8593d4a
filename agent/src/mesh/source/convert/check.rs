//! What is wrong with one object by itself.

use crate::mesh::source::objects::kind::{Kind, Object};
use crate::mesh::source::objects::pod::Pod;
use crate::mesh::source::problem::Fault;

use super::mesh::Rules;
use super::{pod, policy, service, value};

/// Everything that is wrong with an object. One without faults converts.
#[must_use]
pub fn check(object: &Object, rules: &Rules) -> Vec<Fault> {
    let mut faults = Vec::new();
    let kind = object.kind();
    value::metadata(object.metadata(), matches!(kind, Kind::Namespace | Kind::Service), &mut faults);
    match object {
        Object::Namespace(_) | Object::Node(_) | Object::ServiceAccount(_) => {}
        Object::Pod(pod) => check_pod(pod, rules, &mut faults),
        Object::Service(service) => service::check_service(service, &mut faults),
        Object::EndpointSlice(slice) => service::check_slice(slice, &mut faults),
        Object::PeerAuthentication(object) => faults.extend(policy::authentication::read(object).faults),
        Object::AuthorizationPolicy(object) => faults.extend(policy::authorization::read(object).faults),
    }
    faults
}

fn check_pod(pod: &Pod, rules: &Rules, faults: &mut Vec<Fault>) {
    faults.extend(pod::addresses(pod).err());
    // A namespace that is no name at all is reported with the metadata.
    if faults.is_empty() {
        faults.extend(pod::identity(pod, &rules.trust_domain).err());
    }
    if rules.netns_annotation {
        faults.extend(pod::netns(pod).err());
    }
}
