//! `selector.matchLabels`.

use serde_json::Value;

use crate::mesh::source::convert::value;
use crate::mesh::source::field::shorten;
use crate::mesh::source::problem::Fault;
use crate::model::policy::selector::{Labels, Selector};

use super::fields::Fields;

/// Reads a selector; labels that are wrong are left out of it. One without labels selects what no selector at all does.
pub(super) fn selector(spec: &Fields<'_>, faults: &mut Vec<Fault>, notices: &mut Vec<Fault>) -> Selector {
    let Some(given) = spec.value("selector") else { return Selector::default() };
    let before = faults.len();
    let selector = Fields::of(Some(given), spec.path("selector"), &["matchLabels"], faults);
    let path = selector.path("matchLabels");
    let mut labels: Vec<(&str, &str)> = Vec::new();
    match selector.value("matchLabels") {
        None => {}
        Some(Value::Object(map)) => {
            for (key, value) in map {
                match label(key, value) {
                    Ok(value) => labels.push((key, value)),
                    Err(message) => faults.push(Fault::new(path.clone().key(key), message)),
                }
            }
        }
        Some(_) => faults.push(Fault::new(path.clone(), "expected a mapping of labels")),
    }
    if labels.is_empty() && faults.len() == before {
        let message =
            "selects by no label, so the policy is for all workloads in its scope; leave the selector out to say so";
        notices.push(Fault::new(path, message));
    }
    Selector(Labels::from_iter(labels))
}

fn label<'a>(key: &str, value: &'a Value) -> Result<&'a str, String> {
    let Value::String(value) = value else { return Err("expected a text: write it in quotes".to_owned()) };
    if key.is_empty() {
        return Err("is a label without a name".to_owned());
    }
    if key.contains('*') || value.contains('*') {
        return Err("selectors have no wildcards: name the label and its value in full".to_owned());
    }
    if !value::is_label_value(value) {
        return Err(format!("{:?} is not a label value", shorten(value)));
    }
    Ok(value)
}
