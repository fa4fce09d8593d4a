//! The answer, from the mesh as the agent knows it and by the evaluator that the data path uses.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::ends::{Dialled, dialled, source};
use super::path::{Arrival, walk};
use super::question::{Client, Question};
use super::step::{Outcome, Stage, Step};
use crate::control::enroll::status::EnrolmentStatus;
use crate::drivers::certs::store::CertificateStatus;
use crate::model::identity::TrustDomain;
use crate::model::policy::authentication::{Mode, Setting};
use crate::model::policy::evaluate::evaluate;
use crate::model::policy::explain::{Considered, Explanation, explain};
use crate::model::policy::rule::Request;
use crate::model::view::MeshView;

/// What the agent that is asked knows.
#[derive(Clone, Copy, Debug)]
pub struct Knowledge<'a> {
    /// The mesh.
    pub view: &'a MeshView,
    /// Whose identities are accepted.
    pub trust_domain: &'a TrustDomain,
    /// The agent's own node.
    pub node: &'a str,
    /// The pods of this node.
    pub enrolment: &'a EnrolmentStatus,
    /// The certificates of this node.
    pub certificates: &'a [CertificateStatus],
    /// When it is asked.
    pub now: SystemTime,
}

/// What there is to say of a connection that somebody asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Whether it would work, as far as this agent can tell.
    pub reaches: bool,
    /// Where it would stop, if it would.
    pub stops_at: Option<Stage>,
    /// What it meets on its way, in this order.
    pub path: Vec<Step>,
    /// Whether policy would let it in.
    pub allowed: bool,
    /// Policy's decision in words.
    pub verdict: String,
    /// The reason in one word, as logs and metrics have it; `not_enforced` where the destination is outside of the mesh,
    /// `not_reached` where it does not get as far as that.
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
    #[error("{field}: no pod {name} is known here; `sotto pods --mesh` lists those that are")]
    NoPod {
        /// Where it was named.
        field: &'static str,
        /// What was asked for.
        name: String,
    },
    /// The agent knows no such service.
    #[error("to: no service {0} is known here; `sotto services` lists those that are")]
    NoService(String),
    /// There is nothing to connect to.
    #[error("to: {0} has no address for this port")]
    NoAddress(String),
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

/// Other endpoints whose policies are looked at.
const ALTERNATIVES: usize = 64;

/// Answers a question.
///
/// # Errors
/// [`NoAnswer`]
pub fn answer(known: &Knowledge<'_>, question: &Question) -> Result<Answer, NoAnswer> {
    let mut notes = Vec::new();
    let client = source(known, question, &mut notes)?;
    let dialled = dialled(known.view, question, &client)?;
    let (path, arrival) = walk(known, &client, &dialled);
    if question.from == Client::Nobody
        && client.pod.is_none()
        && arrival.as_ref().is_some_and(|there| there.pod.is_none())
    {
        return Err(NoAnswer::NoPod { field: "to", name: format!("with the address {}", dialled.to.ip()) });
    }
    let source = Side {
        pod: client.pod.map(|pod| pod.pod.to_string()),
        identity: client.identity.as_ref().map(ToString::to_string),
        ip: dialled.from,
        port: None,
        node: client.pod.map(|pod| pod.node.to_string()),
    };
    let mut answer = match &arrival {
        Some(there) => at_the_door(known, source, there, dialled.from),
        None => on_the_way(source, &dialled),
    };
    answer.path.splice(0..0, path);
    let stop = answer.path.iter().find(|step| step.outcome == Outcome::Stops);
    answer.stops_at = stop.map(|step| step.stage);
    answer.reaches = stop.is_none();
    answer.notes.splice(0..0, notes);
    Ok(answer)
}

/// A connection that gets nowhere.
fn on_the_way(source: Side, dialled: &Dialled) -> Answer {
    let (ip, port) = (dialled.to.ip(), Some(dialled.to.port()));
    Answer {
        reaches: false,
        stops_at: None,
        path: Vec::new(),
        allowed: false,
        verdict: "policy is not asked: there is nowhere to go".to_owned(),
        reason: "not_reached".to_owned(),
        source,
        destination: Side { pod: None, identity: None, ip, port, node: None },
        mtls: mutual_tls(&Setting::default()),
        policies: Vec::new(),
        notes: Vec::new(),
    }
}

/// What policy says where the connection arrives.
fn at_the_door(known: &Knowledge<'_>, source: Side, there: &Arrival<'_>, from: IpAddr) -> Answer {
    let (ip, port) = (there.address.ip(), Some(there.address.port()));
    let belongs = there.pod.filter(|pod| pod.is_enrolled());
    let destination = Side {
        pod: there.pod.map(|pod| pod.pod.to_string()),
        identity: belongs.map(|pod| pod.identity.to_string()),
        ip,
        port,
        node: there.pod.map(|pod| pod.node.to_string()),
    };
    let policies = there.pod.and_then(|pod| known.view.policies_of(&pod.pod)).unwrap_or_default();
    let explanation = explain(&policies, &Request::new(there.identity.clone(), from, there.address));
    let verdict = &explanation.verdict;
    let mut notes = Vec::new();
    let (allowed, words, reason) = match (there.pod, belongs) {
        (_, Some(_)) => {
            notes.push("probes of the node's own kubelet are let in whatever policies say".to_owned());
            (verdict.allowed(), verdict.to_string(), verdict.reason.code())
        }
        (Some(pod), None) => {
            notes.push(format!("{} does not belong to the mesh: nothing of this is enforced there", pod.pod));
            (true, "allowed: the pod does not belong to the mesh".to_owned(), "not_enforced")
        }
        (None, None) => (true, "allowed: the destination does not belong to the mesh".to_owned(), "not_enforced"),
    };
    Answer {
        reaches: allowed,
        stops_at: None,
        path: vec![door(known, there, from, (allowed, &words))],
        allowed,
        verdict: words,
        reason: reason.to_owned(),
        source,
        destination,
        mtls: mutual_tls(&explanation.authentication),
        policies: explanation.policies.iter().map(|policy| policy_answer(policy, &explanation)).collect(),
        notes,
    }
}

/// The last step; other endpoints may have other policies.
fn door(known: &Knowledge<'_>, there: &Arrival<'_>, from: IpAddr, (allowed, words): (bool, &str)) -> Step {
    let lets_in = |address: &SocketAddr| {
        let pod = known.view.workload_at(address.ip()).filter(|pod| pod.is_enrolled());
        let Some(policies) = pod.and_then(|pod| known.view.policies_of(&pod.pod)) else { return true };
        evaluate(&policies, &Request::new(there.identity.clone(), from, *address)).allowed()
    };
    let different = there.others.iter().take(ALTERNATIVES).filter(|address| lets_in(address) != allowed).count();
    let words = words.to_owned();
    match (allowed, different) {
        (true, 0) => Step::ok(Stage::Policy, words),
        (false, 0) => Step::stops(Stage::Policy, words),
        (true, _) => {
            Step::perhaps(Stage::Policy, format!("{words}; {different} of the other endpoints would not let it in"))
        }
        (false, _) => {
            Step::stops(Stage::Policy, format!("{words}; {different} of the other endpoints would let it in"))
        }
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
