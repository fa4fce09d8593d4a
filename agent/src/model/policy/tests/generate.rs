//! Policies and connections by chance, from a small world in which they meet often.

use std::net::IpAddr;
use std::sync::Arc;

use fastrand::Rng;

use crate::model::identity::{Identity, TrustDomain};
use crate::model::policy::authentication::{Mode, PeerAuthentication};
use crate::model::policy::authorization::{Action, AuthorizationPolicy};
use crate::model::policy::rule::{Attribute, Matcher, Request, Rule, ServiceAccount};
use crate::model::policy::selector::{Labels, Selector};
use crate::model::workload::ObjectName;

pub(super) const ROOT: &str = "root";
const NAMESPACES: [&str; 3] = ["a", "b", ROOT];
const PRINCIPALS: [&str; 8] =
    ["*", "td/ns/a/sa/x", "td/ns/b/sa/y", "td/*", "*/sa/x", "other/ns/a/sa/x", "td/ns/a/*", "nobody"];
const BLOCKS: [&str; 6] = ["10.0.0.1", "10.0.0.0/24", "0.0.0.0/0", "::/0", "fd00::/16", "192.0.2.0/24"];
const ADDRESSES: [&str; 4] = ["10.0.0.1", "10.0.0.2", "192.0.2.9", "fd00::1"];
const PORTS: [u16; 3] = [80, 443, 8080];

/// The first `count` sources of chance; a failure names the one that it came from.
pub(super) fn cases(count: u64) -> impl Iterator<Item = (u64, Rng)> {
    (0..count).map(|seed| (seed, Rng::with_seed(seed)))
}

pub(super) fn namespace(rng: &mut Rng) -> &'static str {
    rng.choice(NAMESPACES).unwrap()
}

pub(super) fn request(rng: &mut Rng) -> Request {
    let identity = rng.u8(..4) != 0;
    let identity = identity.then(|| {
        let domain = TrustDomain::new(rng.choice(["td", "other"]).unwrap()).unwrap();
        Identity::new(domain, namespace(rng), rng.choice(["x", "y"]).unwrap()).unwrap()
    });
    let mut address = || rng.choice(ADDRESSES).unwrap().parse::<IpAddr>().unwrap();
    let (from, to) = (address(), address());
    Request::new(identity, from, (to, rng.choice(PORTS).unwrap()).into())
}

fn some<T>(rng: &mut Rng, most: usize, mut one: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    let count = rng.usize(1..=most);
    (0..count).map(|_| one(rng)).collect()
}

pub(super) fn seen(rng: &mut Rng) -> Attribute {
    let block = |rng: &mut Rng| rng.choice(BLOCKS).unwrap().parse().unwrap();
    match rng.u8(..6) {
        0 => Attribute::Principal(some(rng, 2, |rng| rng.choice(PRINCIPALS).unwrap().parse().unwrap())),
        1 => {
            Attribute::Namespace(some(rng, 2, |rng| rng.choice(["a", "b", "*", "r*", "*t"]).unwrap().parse().unwrap()))
        }
        2 => Attribute::ServiceAccount(some(rng, 2, |rng| ServiceAccount {
            namespace: namespace(rng).into(),
            name: rng.choice(["x", "y"]).unwrap().into(),
        })),
        3 => Attribute::SourceIp(some(rng, 2, block)),
        4 => Attribute::DestinationIp(some(rng, 2, block)),
        _ => Attribute::DestinationPort(some(rng, 2, |rng| rng.choice(PORTS).unwrap())),
    }
}

pub(super) fn matcher(rng: &mut Rng) -> Matcher {
    let attribute = if rng.u8(..8) == 0 { Attribute::Unseen("methods".into()) } else { seen(rng) };
    Matcher { attribute, negated: rng.u8(..3) == 0 }
}

pub(super) fn rule(rng: &mut Rng) -> Rule {
    let mut rule = Rule::default();
    if rng.bool() {
        rule.from = some(rng, 3, |rng| some(rng, 2, matcher));
    }
    if rng.bool() {
        rule.to = some(rng, 2, |rng| some(rng, 2, matcher));
    }
    if rng.u8(..3) == 0 {
        rule.when = some(rng, 2, matcher);
    }
    rule
}

pub(super) fn labels(rng: &mut Rng) -> Labels {
    let mut labels = Vec::new();
    for key in ["app", "version", "tier"] {
        if rng.bool() {
            labels.push((key, rng.choice(["1", "2"]).unwrap()));
        }
    }
    labels.into_iter().collect()
}

fn name(rng: &mut Rng) -> ObjectName {
    ObjectName::new(namespace(rng), &format!("p{}", rng.u32(..)))
}

fn selector(rng: &mut Rng) -> Selector {
    Selector(if rng.bool() { labels(rng) } else { Labels::new() })
}

pub(super) fn policy(rng: &mut Rng) -> AuthorizationPolicy {
    let action = if rng.bool() { Action::Allow } else { Action::Deny };
    let rules = if rng.u8(..8) == 0 { Vec::new() } else { some(rng, 3, rule) };
    AuthorizationPolicy { name: name(rng), selector: selector(rng), action, rules, is_closed: false }
}

pub(super) fn policies(rng: &mut Rng) -> Vec<AuthorizationPolicy> {
    let most = rng.usize(1..5);
    some(rng, most, policy)
}

pub(super) fn peer(rng: &mut Rng) -> PeerAuthentication {
    let mode = |rng: &mut Rng| rng.choice([Mode::Unset, Mode::Disable, Mode::Permissive, Mode::Strict]).unwrap();
    let dates = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"];
    let created = rng.bool().then(|| Arc::from(rng.choice(dates).unwrap()));
    let ports = if rng.bool() { some(rng, 2, |rng| (rng.choice(PORTS).unwrap(), mode(rng))) } else { Vec::new() };
    PeerAuthentication {
        name: name(rng),
        selector: selector(rng),
        mode: mode(rng),
        ports: ports.into_iter().collect(),
        created,
    }
}

pub(super) fn peers(rng: &mut Rng) -> Vec<PeerAuthentication> {
    let most = rng.usize(1..5);
    some(rng, most, peer)
}
