//! One rule: what it asks of a connection, and whether a connection is what it asks for.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::pattern::{IpBlock, TextPattern};
use crate::model::identity::Identity;

/// One connection, as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    source: Option<Source>,
    source_ip: IpAddr,
    destination: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    identity: Identity,
    /// `<trust domain>/ns/<namespace>/sa/<service account>`, as rules write it.
    principal: Box<str>,
}

/// Whether something holds, where part of it may be impossible to know. Ordered: the lesser of two is "both", the greater "either".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// It does not hold.
    No,
    /// It hangs on something that cannot be seen at L4.
    Unknown,
    /// It holds.
    Yes,
}

/// What a rule can ask for, each with the values of which one has to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// `principals`, `source.principal`
    Principal(Vec<TextPattern>),
    /// `namespaces`, `source.namespace`
    Namespace(Vec<TextPattern>),
    /// `serviceAccounts`, `source.serviceAccount`
    ServiceAccount(Vec<ServiceAccount>),
    /// `ipBlocks`, `source.ip`; `remoteIpBlocks`, `remote.ip`: without an HTTP header or PROXY protocol to tell another one, the
    /// remote address of a TCP connection is its source address
    SourceIp(Vec<IpBlock>),
    /// `destination.ip`
    DestinationIp(Vec<IpBlock>),
    /// `ports`, `destination.port`: the port of the workload, not of a Service
    DestinationPort(Vec<u16>),
    /// An attribute that cannot be seen at L4 (`methods`, `request.headers[…]`), by the name that the policy uses.
    Unseen(Arc<str>),
}

/// A service account in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// One requirement of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// What has to match.
    pub attribute: Attribute,
    /// Whether it must not (`not…`, `notValues`). What is not there never matches, so it passes a negative requirement.
    pub negated: bool,
}

/// One rule of an AuthorizationPolicy. The empty rule matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Sources: one has to meet all of its requirements. Empty: any source.
    pub from: Vec<Vec<Matcher>>,
    /// Operations: one has to meet all of its requirements. Empty: any operation.
    pub to: Vec<Vec<Matcher>>,
    /// Conditions: all have to be met.
    pub when: Vec<Matcher>,
}

impl Request {
    /// A connection from `source_ip` to a workload's own address and port, with the identity that the client proved, if any.
    #[must_use]
    pub fn new(source: Option<Identity>, source_ip: IpAddr, destination: SocketAddr) -> Self {
        Self { source: source.map(Source::new), source_ip, destination }
    }

    /// The same connection from a client with another identity, or without one.
    #[must_use]
    pub fn with_identity(&self, identity: Option<Identity>) -> Self {
        Self { source: identity.map(Source::new), ..*self }
    }

    /// The client's address.
    #[must_use]
    pub fn source_ip(&self) -> IpAddr {
        self.source_ip
    }

    /// The identity that the client proved.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.source.as_ref().map(|source| &source.identity)
    }

    /// The port of the workload.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.destination.port()
    }
}

impl Source {
    fn new(identity: Identity) -> Self {
        let (namespace, account) = (identity.namespace(), identity.service_account());
        let principal = format!("{}/ns/{namespace}/sa/{account}", identity.trust_domain()).into();
        Self { identity, principal }
    }
}

impl Attribute {
    fn truth(&self, request: &Request) -> Truth {
        let identity = request.identity();
        let any_text = |patterns: &[TextPattern], value: Option<&str>| patterns.iter().any(|p| p.matches(value));
        let matches = match self {
            Self::Principal(patterns) => any_text(patterns, request.source.as_ref().map(|source| &*source.principal)),
            Self::Namespace(patterns) => any_text(patterns, identity.map(Identity::namespace)),
            Self::ServiceAccount(accounts) => {
                identity.is_some_and(|identity| accounts.iter().any(|account| account.is_of(identity)))
            }
            Self::SourceIp(blocks) => blocks.iter().any(|block| block.contains(request.source_ip)),
            Self::DestinationIp(blocks) => blocks.iter().any(|block| block.contains(request.destination.ip())),
            Self::DestinationPort(ports) => ports.contains(&request.port()),
            Self::Unseen(_) => return Truth::Unknown,
        };
        if matches { Truth::Yes } else { Truth::No }
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ServiceAccount {
    fn is_of(&self, identity: &Identity) -> bool {
        identity.service_account() == &*self.name && identity.namespace() == &*self.namespace
    }
}

impl Matcher {
    /// The attribute has to match.
    #[must_use]
    pub fn is(attribute: Attribute) -> Self {
        Self { attribute, negated: false }
    }

    /// The attribute must not match.
    #[must_use]
    pub fn is_not(attribute: Attribute) -> Self {
        Self { attribute, negated: true }
    }

    /// Whether the requirement is met.
    #[must_use]
    pub fn truth(&self, request: &Request) -> Truth {
        match (self.attribute.truth(request), self.negated) {
            (truth, false) => truth,
            (Truth::No, true) => Truth::Yes,
            (Truth::Unknown, true) => Truth::Unknown,
            (Truth::Yes, true) => Truth::No,
        }
    }
}

impl Rule {
    /// Whether the rule matches a connection.
    #[must_use]
    pub fn truth(&self, request: &Request) -> Truth {
        all(&self.when, request).min(any(&self.from, request)).min(any(&self.to, request))
    }

    /// The attributes that cannot be seen at L4.
    pub fn unseen(&self) -> impl Iterator<Item = &str> {
        let alternatives = self.from.iter().chain(&self.to).flatten();
        alternatives.chain(&self.when).filter_map(|matcher| match &matcher.attribute {
            Attribute::Unseen(name) => Some(&**name),
            Attribute::Principal(_)
            | Attribute::Namespace(_)
            | Attribute::ServiceAccount(_)
            | Attribute::SourceIp(_)
            | Attribute::DestinationIp(_)
            | Attribute::DestinationPort(_) => None,
        })
    }
}

fn all(matchers: &[Matcher], request: &Request) -> Truth {
    matchers.iter().map(|matcher| matcher.truth(request)).min().unwrap_or(Truth::Yes)
}

fn any(alternatives: &[Vec<Matcher>], request: &Request) -> Truth {
    alternatives.iter().map(|matchers| all(matchers, request)).max().unwrap_or(Truth::Yes)
}
