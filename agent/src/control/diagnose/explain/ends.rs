//! Who connects, and to what: from names to addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::answer::{Knowledge, NoAnswer};
use super::question::{Client, Question, Server};
use crate::model::identity::Identity;
use crate::model::service::Service;
use crate::model::view::MeshView;
use crate::model::workload::Workload;

/// Who connects.
pub(super) struct Source<'a> {
    /// The pod, if it is one.
    pub(super) pod: Option<&'a Arc<Workload>>,
    /// Whom its certificate names; none in clear text.
    pub(super) identity: Option<Identity>,
}

/// What the client dials.
pub(super) struct Dialled {
    /// The client's address.
    pub(super) from: IpAddr,
    /// Where it connects to.
    pub(super) to: SocketAddr,
}

/// Who connects.
///
/// # Errors
/// [`NoAnswer`] when there is no such pod, or the identity is not one of the mesh.
pub(super) fn source<'a>(
    known: &'a Knowledge<'_>,
    question: &Question,
    notes: &mut Vec<String>,
) -> Result<Source<'a>, NoAnswer> {
    let view = known.view;
    match &question.from {
        Client::Nobody => Ok(Source { pod: question.from_ip.and_then(|ip| view.workload_at(ip)), identity: None }),
        Client::Pod(name) => {
            let pod = view.workload(name).ok_or_else(|| NoAnswer::NoPod { field: "from", name: name.to_string() })?;
            Ok(Source { pod: Some(pod), identity: pod.is_enrolled().then(|| pod.identity.clone()) })
        }
        Client::Identity(identity) if identity.trust_domain() != known.trust_domain => {
            let mesh = known.trust_domain.to_string();
            Err(NoAnswer::TrustDomain { identity: identity.to_string(), mesh })
        }
        Client::Identity(identity) => {
            let is_one = |pod: &&Arc<Workload>| pod.identity == *identity && pod.is_enrolled();
            let pod = view.workloads().filter(is_one).min_by(|a, b| a.pod.cmp(&b.pod));
            if question.from_ip.is_none() {
                notes.push(match pod {
                    Some(pod) => format!("rules about addresses were asked about the address of {}; say another with from-ip", pod.pod),
                    None => "no pod has this identity: rules about addresses were asked about no address; say one with from-ip".to_owned(),
                });
            }
            Ok(Source { pod, identity: Some(identity.clone()) })
        }
    }
}

/// The addresses of both, of one family.
///
/// # Errors
/// [`NoAnswer`] when there is nothing of that name, or they have no family in common.
pub(super) fn dialled(view: &MeshView, question: &Question, source: &Source<'_>) -> Result<Dialled, NoAnswer> {
    let to = targets(view, question)?;
    let from = match question.from_ip {
        Some(ip) => vec![ip],
        None => source.pod.map(|pod| pod.ips.clone()).unwrap_or_default(),
    };
    if from.is_empty() {
        let to = *to.first().ok_or(NoAnswer::Family)?;
        let nowhere = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        return Ok(Dialled { from: nowhere, to });
    }
    let pair = |to: &SocketAddr| {
        let like = from.iter().find(|from| from.is_ipv4() == to.is_ipv4())?;
        Some(Dialled { from: *like, to: *to })
    };
    to.iter().find_map(pair).ok_or(NoAnswer::Family)
}

fn targets(view: &MeshView, question: &Question) -> Result<Vec<SocketAddr>, NoAnswer> {
    let at = |ip: &IpAddr| SocketAddr::new(*ip, question.port);
    let pod = |name| view.workload(name).map(|pod| pod.ips.iter().map(at).collect());
    let service = |name: &_| {
        let found = view.services().find(|service| service.name == *name)?;
        Some(if found.vips.is_empty() { behind(found, question.port) } else { found.vips.iter().map(at).collect() })
    };
    let (found, name) = match &question.to {
        Server::Ip(ip) => return Ok(vec![at(ip)]),
        Server::Pod(name) => (pod(name), name),
        Server::Service(name) => (service(name), name),
        Server::Named(name) => (pod(name).or_else(|| service(name)), name),
    };
    let found = found.ok_or_else(|| match &question.to {
        Server::Service(_) => NoAnswer::NoService(name.to_string()),
        Server::Ip(_) | Server::Pod(_) | Server::Named(_) => NoAnswer::NoPod { field: "to", name: name.to_string() },
    })?;
    if found.is_empty() { Err(NoAnswer::NoAddress(name.to_string())) } else { Ok(found) }
}

/// DNS answers with the addresses of the pods, those that are ready first.
fn behind(service: &Service, port: u16) -> Vec<SocketAddr> {
    let of_port: Vec<_> = service.ports.iter().filter(|p| p.port == port).flat_map(|p| &p.endpoints).collect();
    let mut endpoints = if of_port.is_empty() {
        service.ports.iter().flat_map(|p| &p.endpoints).filter(|e| e.address.port() == port).collect()
    } else {
        of_port
    };
    endpoints.sort_by_key(|endpoint| !endpoint.ready);
    endpoints.into_iter().map(|endpoint| endpoint.address).collect()
}
