//! The answer, from the mesh as the agent knows it and by the evaluator that the data path uses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::question::{Client, Question, Server};
use crate::model::identity::{Identity, TrustDomain};
use crate::model::policy::authentication::{Mode, Setting};
use crate::model::policy::explain::{Considered, Explanation, explain};
use crate::model::policy::rule::Request;
use crate::model::view::MeshView;
use crate::model::workload::Workload;

/// What there is to say of a connection that somebody asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Whether it would be let in.
    pub allowed: bool,
    /// The decision in words.
    pub verdict: String,
    /// The reason in one word, as logs and metrics have it; `not_enforced` for a pod outside of the mesh.
    pub reason: String,
    /// Who connects.
    pub source: Side,
    /// To whom.
    pub destination: Side,
    /// Whether clear text is taken.
    pub mtls: MutualTls,
    /// The AuthorizationPolicies that are for the destination, DENY before ALLOW.
    pub policies: Vec<PolicyAnswer>,
    /// What else to know.
    pub notes: Vec<String>,
}

/// One end of the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// Namespace and name of the pod, if it is one.
    pub pod: Option<String>,
    /// The identity that its certificate names; none in clear text.
    pub identity: Option<String>,
    /// Its address.
    pub ip: IpAddr,
    /// The port; none for the client.
    pub port: Option<u16>,
    /// The pod's node.
    pub node: Option<String>,
}

/// What the PeerAuthentications come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MutualTls {
    /// `STRICT`, `PERMISSIVE` or `DISABLE`.
    pub mode: String,
    /// What was said about: `mesh`, `namespace`, `workload`, `port`; `default` where nobody said anything.
    pub level: String,
    /// The PeerAuthentication that said it.
    pub policy: Option<String>,
}

/// What one AuthorizationPolicy has to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyAnswer {
    /// Namespace and name.
    pub policy: String,
    /// `ALLOW` or `DENY`.
    pub action: String,
    /// Whether it is the one that decided.
    pub decides: bool,
    /// Whether it is wrong and fails closed.
    pub invalid: bool,
    /// Its rules, in its order.
    pub rules: Vec<RuleAnswer>,
}

/// What one rule has to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleAnswer {
    /// Its place, counted from 0.
    pub rule: usize,
    /// Whether it matches.
    pub matches: bool,
    /// What it asks for and does not get, or cannot see.
    pub unmet: Vec<String>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The agent knows no such pod.
    #[error("{field}: no pod {name} is known here; `/config_dump` lists those that are")]
    NoPod {
        /// Where it was named.
        field: &'static str,
        /// What was asked for.
        name: String,
    },
    /// The address is a Service's.
    #[error("to: {ip} is the address of the service {service}: ask about one of its pods")]
    Service {
        /// The address.
        ip: IpAddr,
        /// Whose it is.
        service: String,
    },
    /// Its tunnels are refused before policy is asked.
    #[error(
        "from-identity: {identity} is of another trust domain than the mesh ({mesh}): its certificate is refused whatever policies say"
    )]
    TrustDomain {
        /// Whom was asked about.
        identity: String,
        /// The mesh's own.
        mesh: String,
    },
    /// One of them has IPv4 only and the other IPv6 only.
    #[error("from-ip and to: they have no address of the same family")]
    Family,
}

/// Answers a question.
///
/// # Errors
/// [`NoAnswer`]
pub fn answer(view: &MeshView, trust_domain: &TrustDomain, question: &Question) -> Result<Answer, NoAnswer> {
    let server = server(view, &question.to)?;
    let mut notes = Vec::new();
    let client = client(view, trust_domain, question, &mut notes)?;
    let (from, to) = addresses(question, &client, server)?;
    let request = Request::new(client.identity.clone(), from, SocketAddr::new(to, question.port));
    let policies = view.policies_of(&server.pod).unwrap_or_default();
    let explanation = explain(&policies, &request);
    let source = Side {
        pod: client.pod.map(|pod| pod.pod.to_string()),
        identity: client.identity.as_ref().map(ToString::to_string),
        ip: from,
        port: None,
        node: client.pod.map(|pod| pod.node.to_string()),
    };
    let destination = Side {
        pod: Some(server.pod.to_string()),
        identity: server.is_enrolled().then(|| server.identity.to_string()),
        ip: to,
        port: Some(question.port),
        node: Some(server.node.to_string()),
    };
    Ok(told(&explanation, server, (source, destination), notes))
}

fn told(explanation: &Explanation, server: &Workload, sides: (Side, Side), mut notes: Vec<String>) -> Answer {
    let verdict = &explanation.verdict;
    let (mut allowed, mut words, mut reason) =
        (verdict.allowed(), verdict.to_string(), verdict.reason.code().to_owned());
    if !server.is_enrolled() {
        notes.push(format!("{} does not belong to the mesh: nothing of this is enforced there", server.pod));
        (allowed, words, reason) =
            (true, "allowed: the pod does not belong to the mesh".to_owned(), "not_enforced".to_owned());
    }
    notes.push("probes of the node's own kubelet are let in whatever policies say".to_owned());
    Answer {
        allowed,
        verdict: words,
        reason,
        source: sides.0,
        destination: sides.1,
        mtls: mutual_tls(&explanation.authentication),
        policies: explanation.policies.iter().map(|policy| policy_answer(policy, explanation)).collect(),
        notes,
    }
}

fn mutual_tls(setting: &Setting) -> MutualTls {
    let mode = if setting.mode == Mode::Unset { Mode::Permissive } else { setting.mode };
    MutualTls {
        mode: mode.name().to_owned(),
        level: setting.level.name().to_owned(),
        policy: setting.by.as_ref().map(ToString::to_string),
    }
}

fn policy_answer(policy: &Considered, explanation: &Explanation) -> PolicyAnswer {
    let rule = |(rule, outcome): (usize, &crate::model::policy::explain::Outcome)| RuleAnswer {
        rule,
        matches: outcome.matches,
        unmet: outcome.unmet.clone(),
    };
    PolicyAnswer {
        policy: policy.name.to_string(),
        action: policy.action.name().to_owned(),
        decides: explanation.decided_by(policy),
        invalid: policy.is_closed,
        rules: policy.rules.iter().enumerate().map(rule).collect(),
    }
}

fn server<'a>(view: &'a MeshView, server: &Server) -> Result<&'a Arc<Workload>, NoAnswer> {
    let unknown = |name: String| NoAnswer::NoPod { field: "to", name };
    match server {
        Server::Pod(pod) => view.workload(pod).ok_or_else(|| unknown(pod.to_string())),
        Server::Ip(ip) => match view.workload_at(*ip) {
            Some(workload) => Ok(workload),
            None => match view.services().find(|service| service.vips.contains(ip)) {
                Some(service) => Err(NoAnswer::Service { ip: *ip, service: service.name.to_string() }),
                None => Err(unknown(format!("with the address {ip}"))),
            },
        },
    }
}

struct Source<'a> {
    pod: Option<&'a Arc<Workload>>,
    identity: Option<Identity>,
}

fn client<'a>(
    view: &'a MeshView,
    trust_domain: &TrustDomain,
    question: &Question,
    notes: &mut Vec<String>,
) -> Result<Source<'a>, NoAnswer> {
    match &question.from {
        Client::Nobody => Ok(Source { pod: question.from_ip.and_then(|ip| view.workload_at(ip)), identity: None }),
        Client::Pod(name) => {
            let pod = view.workload(name).ok_or_else(|| NoAnswer::NoPod { field: "from", name: name.to_string() })?;
            if !pod.is_enrolled() {
                notes.push(format!(
                    "{name} does not belong to the mesh: it connects in clear text, without an identity"
                ));
            }
            Ok(Source { pod: Some(pod), identity: pod.is_enrolled().then(|| pod.identity.clone()) })
        }
        Client::Identity(identity) if identity.trust_domain() != trust_domain => {
            Err(NoAnswer::TrustDomain { identity: identity.to_string(), mesh: trust_domain.to_string() })
        }
        Client::Identity(identity) => {
            let mut pods: Vec<_> =
                view.workloads().filter(|pod| pod.identity == *identity && pod.is_enrolled()).collect();
            pods.sort_by(|a, b| a.pod.cmp(&b.pod));
            if question.from_ip.is_none() {
                notes.push(match pods.first() {
                    Some(pod) => format!("rules about addresses were asked about the address of {}; say another with from-ip", pod.pod),
                    None => "no pod has this identity: rules about addresses were asked about no address; say one with from-ip".to_owned(),
                });
            }
            Ok(Source { pod: pods.first().copied(), identity: Some(identity.clone()) })
        }
    }
}

/// The addresses of both, of one family.
fn addresses(question: &Question, client: &Source<'_>, server: &Workload) -> Result<(IpAddr, IpAddr), NoAnswer> {
    let given = match &question.to {
        Server::Ip(ip) => vec![*ip],
        Server::Pod(_) => server.ips.clone(),
    };
    let from = match question.from_ip {
        Some(ip) => vec![ip],
        None => client.pod.map(|pod| pod.ips.clone()).unwrap_or_default(),
    };
    if from.is_empty() {
        let to = *given.first().ok_or(NoAnswer::Family)?;
        let nowhere = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        return Ok((nowhere, to));
    }
    let pair = |to: &IpAddr| from.iter().find(|from| from.is_ipv4() == to.is_ipv4()).map(|from| (*from, *to));
    given.iter().find_map(pair).ok_or(NoAnswer::Family)
}
