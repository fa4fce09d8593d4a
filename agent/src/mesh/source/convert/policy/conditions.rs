//! `when`: conditions of a rule by the name of an attribute.

use serde_json::Value;

use crate::mesh::source::field::{FieldPath, shorten};
use crate::mesh::source::problem::Fault;
use crate::model::policy::rule::{Attribute, Matcher};

use super::fields::Fields;
use super::sources::{block, port, principal, service_account, text};

/// Istio's attributes that cannot be seen at L4: by name, or by how their names begin.
const UNSEEN: [&str; 5] = ["request.", "connection.", "experimental.", "source.labels", "destination.labels"];

/// Reads one condition of a policy in `namespace`: what has to match, and what must not.
pub(super) fn condition(value: &Value, path: FieldPath, namespace: &str, faults: &mut Vec<Fault>) -> Vec<Matcher> {
    let fields = Fields::of(Some(value), path.clone(), &["key", "values", "notValues"], faults);
    let before = faults.len();
    let Some(key) = fields.text("key", faults) else {
        if faults.len() == before {
            faults.push(Fault::new(fields.path("key"), "is missing: name an attribute, as source.ip"));
        }
        return Vec::new();
    };
    let mut matchers = Vec::new();
    for (list, negated) in [("values", false), ("notValues", true)] {
        let attribute = match key {
            "source.principal" => fields.texts(list, faults, principal).map(Attribute::Principal),
            "source.namespace" => fields.texts(list, faults, text).map(Attribute::Namespace),
            "source.serviceAccount" => {
                let account = |text: &str| service_account(text, namespace);
                fields.texts(list, faults, account).map(Attribute::ServiceAccount)
            }
            "source.ip" | "remote.ip" => fields.texts(list, faults, block).map(Attribute::SourceIp),
            "destination.ip" => fields.texts(list, faults, block).map(Attribute::DestinationIp),
            "destination.port" => fields.texts(list, faults, port).map(Attribute::DestinationPort),
            unseen if UNSEEN.iter().any(|known| unseen.starts_with(known)) => {
                fields.texts(list, faults, |_| Ok(())).map(|_| Attribute::Unseen(unseen.into()))
            }
            other => {
                let message = format!(
                    "{:?} is not an attribute; at L4 there are source.ip, source.namespace, source.principal, \
                     source.serviceAccount, remote.ip, destination.ip and destination.port",
                    shorten(other)
                );
                faults.push(Fault::new(fields.path("key"), message));
                return Vec::new();
            }
        };
        matchers.extend(attribute.map(|attribute| Matcher { attribute, negated }));
    }
    if matchers.is_empty() && faults.len() == before {
        faults.push(Fault::new(path, "has neither values nor notValues"));
    }
    matchers
}
