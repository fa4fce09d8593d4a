//! One PeerAuthentication.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::mesh::source::convert::value;
use crate::mesh::source::field::{FieldPath, shorten};
use crate::mesh::source::objects::peer_authentication::PeerAuthentication;
use crate::mesh::source::problem::Fault;
use crate::model::policy::authentication::{self as model, Mode};
use crate::model::workload::ObjectName;

use super::fields::{Fields, Reading};
use super::selector::selector;

const DISABLED: &str = "DISABLE is not supported where the mesh carries both sides: their tunnels stay mutual TLS, and clear text \
                        is taken as with PERMISSIVE";

/// Reads an object. Where it is wrong, the policy stands for it and is STRICT.
pub(in crate::mesh::source::convert) fn read(object: &PeerAuthentication) -> Reading<model::PeerAuthentication> {
    let (mut faults, mut notices) = (Vec::new(), Vec::new());
    let known = ["selector", "mtls", "portLevelMtls"];
    let spec = Fields::of(Some(&object.spec), FieldPath::of("spec"), &known, &mut faults);
    let selector = selector(&spec, &mut faults, &mut notices);
    let mode = mutual_tls(spec.value("mtls"), spec.path("mtls"), &mut faults, &mut notices);
    let ports = ports(&spec, &mut faults, &mut notices);
    if !ports.is_empty() && selector.is_everything() && faults.is_empty() {
        let message = "has no effect without a selector: add spec.selector.matchLabels";
        notices.push(Fault::new(spec.path("portLevelMtls"), message));
    }
    let name = ObjectName::new(object.metadata.namespace_or_default(), &object.metadata.name);
    let policy = if faults.is_empty() {
        let created = object.metadata.creation_timestamp.as_deref().map(Into::into);
        model::PeerAuthentication { name, selector, mode, ports, created }
    } else {
        model::PeerAuthentication::closed(name, selector)
    };
    Reading { policy: Some(policy), faults, notices }
}

fn mutual_tls(value: Option<&Value>, path: FieldPath, faults: &mut Vec<Fault>, notices: &mut Vec<Fault>) -> Mode {
    let fields = Fields::of(value, path, &["mode"], faults);
    match fields.text("mode", faults) {
        None | Some("UNSET") => Mode::Unset,
        Some("PERMISSIVE") => Mode::Permissive,
        Some("STRICT") => Mode::Strict,
        Some("DISABLE") => {
            notices.push(Fault::new(fields.path("mode"), DISABLED));
            Mode::Disable
        }
        Some(other) => {
            let message = format!("{:?} is not a mode: write STRICT, PERMISSIVE or UNSET", shorten(other));
            faults.push(Fault::new(fields.path("mode"), message));
            Mode::Unset
        }
    }
}

fn ports(spec: &Fields<'_>, faults: &mut Vec<Fault>, notices: &mut Vec<Fault>) -> BTreeMap<u16, Mode> {
    let path = spec.path("portLevelMtls");
    let map = match spec.value("portLevelMtls") {
        None => return BTreeMap::new(),
        Some(Value::Object(map)) => map,
        Some(_) => {
            faults.push(Fault::new(path, "expected a mapping from ports to modes"));
            return BTreeMap::new();
        }
    };
    let mut ports = BTreeMap::new();
    for (key, value) in map {
        let path = path.clone().key(key);
        let port = key.parse::<i64>().map_err(|_| Fault::new(path.clone(), "is not a port number"));
        match port.and_then(|port| value::port(port, path.clone())) {
            Ok(port) => drop(ports.insert(port, mutual_tls(Some(value), path, faults, notices))),
            Err(fault) => faults.push(fault),
        }
    }
    ports
}
