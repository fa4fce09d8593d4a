//! `source` and `operation` of a rule.

use std::sync::Arc;

use serde_json::Value;

use crate::mesh::source::convert::value;
use crate::mesh::source::field::FieldPath;
use crate::mesh::source::problem::Fault;
use crate::model::policy::pattern::{IpBlock, TextPattern};
use crate::model::policy::rule::{Attribute, Matcher, ServiceAccount};

use super::fields::Fields;

const SOURCE: [&str; 12] = [
    "principals",
    "notPrincipals",
    "requestPrincipals",
    "notRequestPrincipals",
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "ipBlocks",
    "notIpBlocks",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
];

const OPERATION: [&str; 8] = ["hosts", "notHosts", "ports", "notPorts", "methods", "notMethods", "paths", "notPaths"];

/// Reads `from[].source` of a policy in `namespace`. Every field that is set is one requirement.
pub(super) fn source(value: &Value, path: FieldPath, namespace: &str, faults: &mut Vec<Fault>) -> Vec<Matcher> {
    let fields = Fields::of(Some(value), path.clone(), &SOURCE, faults);
    let account = |text: &str| service_account(text, namespace);
    let mut matchers = Vec::new();
    for negated in [false, true] {
        let key = |name: &str| if negated { negative(name) } else { name.to_owned() };
        let read = [
            fields.texts(&key("principals"), faults, principal).map(Attribute::Principal),
            fields.texts(&key("namespaces"), faults, text).map(Attribute::Namespace),
            fields.texts(&key("serviceAccounts"), faults, account).map(Attribute::ServiceAccount),
            fields.texts(&key("ipBlocks"), faults, block).map(Attribute::SourceIp),
            fields.texts(&key("remoteIpBlocks"), faults, block).map(Attribute::SourceIp),
            unseen(&fields, &key("requestPrincipals"), faults),
        ];
        matchers.extend(read.into_iter().flatten().map(|attribute| Matcher { attribute, negated }));
    }
    let has = |wanted: fn(&Attribute) -> bool| matchers.iter().any(|matcher| wanted(&matcher.attribute));
    let others = has(|a| matches!(a, Attribute::Principal(_) | Attribute::Namespace(_)));
    if others && has(|a| matches!(a, Attribute::ServiceAccount(_))) {
        faults.push(Fault::new(path, "serviceAccounts cannot be combined with principals or namespaces"));
    }
    matchers
}

/// Reads `to[].operation`.
pub(super) fn operation(value: &Value, path: FieldPath, faults: &mut Vec<Fault>) -> Vec<Matcher> {
    let fields = Fields::of(Some(value), path, &OPERATION, faults);
    let mut matchers = Vec::new();
    for negated in [false, true] {
        let key = |name: &str| if negated { negative(name) } else { name.to_owned() };
        let ports = fields.texts(&key("ports"), faults, port).map(Attribute::DestinationPort);
        matchers.extend(ports.map(|attribute| Matcher { attribute, negated }));
        for name in ["hosts", "methods", "paths"] {
            let attribute = unseen(&fields, &key(name), faults);
            matchers.extend(attribute.map(|attribute| Matcher { attribute, negated }));
        }
    }
    matchers
}

/// `notPrincipals` for `principals`.
fn negative(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    format!("not{}{rest}", first.to_ascii_uppercase())
}

fn unseen(fields: &Fields<'_>, key: &str, faults: &mut Vec<Fault>) -> Option<Attribute> {
    fields.texts(key, faults, |_| Ok(())).map(|_| Attribute::Unseen(key.into()))
}

/// A text with a wildcard at either end.
pub(super) fn text(text: &str) -> Result<TextPattern, String> {
    text.parse().map_err(|error: crate::model::policy::pattern::PatternError| error.to_string())
}

/// A principal: `<trust domain>/ns/<namespace>/sa/<service account>`, with wildcards.
pub(super) fn principal(principal: &str) -> Result<TextPattern, String> {
    if principal.starts_with("spiffe:") {
        return Err(
            "never matches: write it without \"spiffe://\", as cluster.local/ns/NAMESPACE/sa/ACCOUNT".to_owned()
        );
    }
    text(principal)
}

/// An address or a block of them.
pub(super) fn block(text: &str) -> Result<IpBlock, String> {
    text.parse().map_err(|error: crate::model::policy::pattern::PatternError| error.to_string())
}

/// A port number.
pub(super) fn port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or_else(|| "is not a port number from 1 to 65535".to_owned())
}

/// `ACCOUNT` in the policy's own namespace, or `NAMESPACE/ACCOUNT`.
pub(super) fn service_account(text: &str, own: &str) -> Result<ServiceAccount, String> {
    let (namespace, name) = text.split_once('/').unwrap_or((own, text));
    if text.contains('*') {
        return Err("has a wildcard, which serviceAccounts do not take: use principals or namespaces".to_owned());
    }
    if !value::is_subdomain(name) || !value::is_subdomain(namespace) {
        return Err("is not of the form ACCOUNT or NAMESPACE/ACCOUNT".to_owned());
    }
    Ok(ServiceAccount { namespace: Arc::from(namespace), name: Arc::from(name) })
}
