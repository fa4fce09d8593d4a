//! The way of a connection, step by step, up to the door of the pod that it is for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::answer::Knowledge;
use super::ends::{Dialled, Source};
use super::step::{Stage, Step};
use crate::control::enroll::status::PodStatus;
use crate::mesh::upstream::route::{HBONE_PORT, Hop, NoRoute, Route, hop, route};
use crate::model::enrolment::Enrolment;
use crate::model::identity::Identity;
use crate::model::view::Destination;
use crate::model::workload::Workload;

/// Where a connection arrives.
pub(super) struct Arrival<'a> {
    /// The address that the application listens on.
    pub(super) address: SocketAddr,
    /// The pod there.
    pub(super) pod: Option<&'a Arc<Workload>>,
    /// Whom the client proves to be there; none in clear text.
    pub(super) identity: Option<Identity>,
    /// What else could have been chosen.
    pub(super) others: Vec<SocketAddr>,
}

/// Walks the way up to the destination's policies. Without an arrival, the last step says why.
pub(super) fn walk<'a>(
    known: &'a Knowledge<'_>,
    source: &Source<'_>,
    dialled: &Dialled,
) -> (Vec<Step>, Option<Arrival<'a>>) {
    let mut steps = vec![enrolment(known, source)];
    let found = match route(known.view, dialled.to) {
        Ok(found) => found,
        Err(problem) => {
            steps.push(no_route(known, dialled.to, &problem));
            return (steps, None);
        }
    };
    steps.push(Step::ok(Stage::Service, meaning(known, dialled.to)));
    // A route has a candidate, or it is an error.
    let address = found.candidates.first().copied().unwrap_or(dialled.to);
    let pod = known.view.workload_at(address.ip());
    steps.push(endpoint(known, &found, address));
    let belongs = pod.filter(|pod| pod.is_enrolled());
    let identity = source.identity.clone().filter(|_| belongs.is_some());
    if let (Some(identity), Some(server)) = (&identity, belongs) {
        steps.push(certificate(known, source, identity, server));
    }
    steps.push(tunnel(known, source, address, identity.as_ref()));
    if let Some(server) = belongs {
        steps.push(arrival(known, server));
    }
    let others = found.candidates.into_iter().skip(1).collect();
    (steps, Some(Arrival { address, pod, identity, others }))
}

fn enrolment(known: &Knowledge<'_>, source: &Source<'_>) -> Step {
    let stage = Stage::Enrolment;
    let Some(pod) = source.pod else {
        return match &source.identity {
            Some(identity) => Step::perhaps(stage, format!("no pod that is known here has the identity {identity}")),
            None => Step::ok(stage, "no pod of the mesh: it connects in clear text, without an identity"),
        };
    };
    let name = &pod.pod;
    match pod.enrolment {
        Enrolment::Outside(reason) => {
            Step::ok(stage, format!("{name} does not belong to the mesh: it connects in clear text ({reason})"))
        }
        Enrolment::Enrolled if source.identity.is_none() => {
            Step::perhaps(stage, format!("{name} belongs to the mesh, but is said to connect without an identity"))
        }
        Enrolment::Enrolled if *pod.node != *known.node => Step::perhaps(
            stage,
            format!("{name} belongs to the mesh; whether it is carried, the agent of {} knows", pod.node),
        ),
        Enrolment::Enrolled => match status(known, pod) {
            Some(PodStatus { enrolled: true, .. }) => Step::ok(stage, format!("{name} is carried by this agent")),
            Some(PodStatus { waiting_for, .. }) => Step::stops(
                stage,
                format!("{name} is not carried yet: {}", waiting_for.as_deref().unwrap_or("it is joining")),
            ),
            None => Step::stops(stage, format!("{name} belongs to the mesh, and this agent has not taken it up yet")),
        },
    }
}

fn status<'a>(known: &'a Knowledge<'_>, pod: &Workload) -> Option<&'a PodStatus> {
    known.enrolment.pods.iter().find(|status| *status.namespace == *pod.pod.namespace && *status.name == *pod.pod.name)
}

/// A service that is known is all right; it is what is behind it that is missing.
fn no_route(known: &Knowledge<'_>, to: SocketAddr, problem: &NoRoute) -> Step {
    match problem {
        NoRoute::NoHealthyEndpoint { .. } => {
            let Destination::Service(service, port) = known.view.destination(to) else {
                return Step::stops(Stage::Endpoint, problem.to_string());
            };
            let why = match port.endpoints.len() {
                0 => format!("nothing is behind {} port {}: does its selector match any pod?", service.name, port.port),
                all => format!("none of the {all} endpoints of {} port {} is ready", service.name, port.port),
            };
            Step::stops(Stage::Endpoint, why)
        }
        NoRoute::UnknownPort { .. } | NoRoute::ReservedPort(_) => Step::stops(Stage::Service, problem.to_string()),
    }
}

fn meaning(known: &Knowledge<'_>, to: SocketAddr) -> String {
    match known.view.destination(to) {
        Destination::Service(service, port) if port.name.is_empty() => {
            format!("{to} is {}, port {}", service.name, port.port)
        }
        Destination::Service(service, port) => format!("{to} is {}, port {} ({})", service.name, port.port, port.name),
        Destination::Workload(_, Some(service)) => format!("{to} is behind the headless service {}", service.name),
        Destination::Workload(pod, None) => format!("none: {to} is the pod {} itself", pod.pod),
        Destination::UnknownPort(service) => format!("{} has no such port", service.name),
        Destination::External => format!("none: {to} is no address of the mesh"),
    }
}

fn endpoint(known: &Knowledge<'_>, found: &Route, address: SocketAddr) -> Step {
    let who = match known.view.workload_at(address.ip()) {
        Some(pod) => format!("{} on {}, {address}", pod.pod, pod.node),
        None => address.to_string(),
    };
    match found.candidates.len() {
        0 | 1 => Step::ok(Stage::Endpoint, who),
        many => Step::ok(Stage::Endpoint, format!("{who}, or another of {many}, at random")),
    }
}

fn certificate(known: &Knowledge<'_>, source: &Source<'_>, identity: &Identity, server: &Workload) -> Step {
    let stage = Stage::Identity;
    let here = source.pod.is_some_and(|pod| *pod.node == *known.node);
    let of_server = format!("the server has to prove {}", server.identity);
    if !here {
        return Step::perhaps(stage, format!("{identity}, certified on another node; {of_server}"));
    }
    let Some(status) = known.certificates.iter().find(|status| status.identity == *identity) else {
        return Step::stops(stage, format!("{identity} has no certificate here"));
    };
    match (&status.certificate, &status.last_error) {
        (Some(certificate), _) if certificate.not_after > known.now => {
            let left = until(known.now, certificate.not_after);
            Step::ok(stage, format!("{identity}, certified for another {left}; {of_server}"))
        }
        (certificate, error) => {
            let state = if certificate.is_some() { "has expired" } else { "has not been issued yet" };
            let error = error.as_deref().unwrap_or("no answer from the authority so far");
            Step::stops(stage, format!("the certificate of {identity} {state}: {error}"))
        }
    }
}

fn until(now: SystemTime, then: SystemTime) -> String {
    let left = then.duration_since(now).unwrap_or_default();
    humantime::format_duration(std::time::Duration::from_secs(left.as_secs())).to_string()
}

fn tunnel(known: &Knowledge<'_>, source: &Source<'_>, address: SocketAddr, identity: Option<&Identity>) -> Step {
    let stage = Stage::Tunnel;
    let from_mesh = source.identity.is_some();
    // Who is not of the mesh has no agent that would choose a way.
    let node = source.pod.map_or("", |pod| &*pod.node);
    match hop(known.view, node, address) {
        Err(problem) => Step::stops(stage, problem.to_string()),
        Ok(Hop::Plain(_)) => {
            let by = if from_mesh { "passed through" } else { "sent" };
            Step::ok(stage, format!("none: {by} as it is, in clear text; the destination does not belong to the mesh"))
        }
        Ok(Hop::SameNode(_) | Hop::Tunnel(_)) if identity.is_none() => {
            Step::ok(stage, "none: it arrives in clear text, from outside of the mesh")
        }
        Ok(Hop::SameNode(_)) => Step::ok(stage, format!("none: both pods are on {node}, and no byte leaves it")),
        Ok(Hop::Tunnel(_)) => Step::ok(stage, format!("mutual TLS to {}", SocketAddr::new(address.ip(), HBONE_PORT))),
    }
}

fn arrival(known: &Knowledge<'_>, server: &Workload) -> Step {
    let (stage, name) = (Stage::Arrival, &server.pod);
    if *server.node != *known.node {
        return Step::perhaps(
            stage,
            format!("{name} belongs to the mesh; whether it is carried, the agent of {} knows", server.node),
        );
    }
    match status(known, server) {
        Some(PodStatus { enrolled: true, .. }) => Step::ok(stage, format!("{name} is carried by this agent")),
        Some(PodStatus { waiting_for: Some(why), .. }) => {
            Step::stops(stage, format!("{name} is not carried yet: {why}"))
        }
        Some(_) | None => {
            Step::stops(stage, format!("{name} belongs to the mesh, and this agent has not taken it up yet"))
        }
    }
}
