//! All policies of the mesh, with what is to be said of them.

use std::sync::Arc;

use crate::mesh::source::convert::mesh::{Objects, Rules};
use crate::mesh::source::field::FieldPath;
use crate::mesh::source::objects::kind::{Kind, ObjectRef};
use crate::mesh::source::objects::meta::ObjectMeta;
use crate::mesh::source::problem::{Fault, Problem};
use crate::model::policy::authentication::PeerAuthentication;
use crate::model::policy::policies::Policies;

use super::fields::Reading;
use super::{authentication, authorization};

const CLOSED: &str = "is wrong, and nothing better is known: until it is mended, it keeps out whatever it may have been meant to \
                      keep out";

/// The policies of all objects. Those that are wrong fail closed.
pub(in crate::mesh::source::convert) fn policies(
    objects: &Objects<'_>,
    rules: &Rules,
    problems: &mut Vec<Problem>,
) -> Policies {
    let mut peers = Vec::new();
    for object in &objects.peer_authentications {
        peers.extend(take(authentication::read(object), Kind::PeerAuthentication, &object.metadata, problems));
    }
    let mut authorization = Vec::new();
    for object in &objects.authorization_policies {
        let policy = take(authorization::read(object), Kind::AuthorizationPolicy, &object.metadata, problems);
        authorization.extend(policy.map(|policy| policy.in_trust_domain(&rules.trust_domain)));
    }
    problems.extend(without_effect(&peers, &rules.root_namespace));
    Policies::new(Arc::clone(&rules.root_namespace), peers, authorization)
}

fn take<P>(reading: Reading<P>, kind: Kind, metadata: &ObjectMeta, problems: &mut Vec<Problem>) -> Option<P> {
    let object = || ObjectRef::new(kind, metadata.namespace_or_default(), &metadata.name);
    let Reading { policy, faults, notices } = reading;
    // What is wrong is reported by `check`.
    if !faults.is_empty() && policy.is_some() {
        problems.push(Fault::new(FieldPath::default(), CLOSED).notice_of(object()));
    } else {
        problems.extend(notices.into_iter().map(|notice| notice.notice_of(object())));
    }
    policy
}

/// PeerAuthentications that another one takes the place of, or that are where they cannot select anything.
fn without_effect(peers: &[PeerAuthentication], root: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut report = |policy: &PeerAuthentication, field: &str, message: String| {
        let object = ObjectRef::new(Kind::PeerAuthentication, &policy.name.namespace, &policy.name.name);
        problems.push(Fault::new(FieldPath::of(field), message).notice_of(object));
    };
    let mut whole: Vec<_> = peers.iter().filter(|policy| policy.selector.is_everything()).collect();
    whole.sort_by_key(|policy| (&policy.name.namespace, policy.seniority()));
    for same in whole.chunk_by(|a, b| a.name.namespace == b.name.namespace) {
        let (first, others) = (same[0], &same[1..]);
        for policy in others {
            report(policy, "spec", format!("has no effect: {} is for the same workloads and older", first.name));
        }
    }
    for policy in peers.iter().filter(|policy| !policy.selector.is_everything() && &*policy.name.namespace == root) {
        report(
            policy,
            "spec.selector",
            "has no effect in the root namespace: put the policy where the workloads are".into(),
        );
    }
    problems
}
