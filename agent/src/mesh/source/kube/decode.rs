//! The JSON of one object to a slim object, or to what is wrong with it.

use serde::de::DeserializeSeed;

use crate::mesh::source::convert::check::check;
use crate::mesh::source::convert::mesh::Rules;
use crate::mesh::source::field::{FieldPath, one_line};
use crate::mesh::source::objects::kind::{Kind, Object};
use crate::mesh::source::problem::Fault;

use super::prune::prune;

/// What became of an object.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Decoded {
    /// The object without what nobody asks for; none if it cannot be read at all.
    pub(super) object: Option<Object>,
    /// What is wrong with it.
    pub(super) faults: Vec<Fault>,
}

/// Reads an object of `kind`.
pub(super) fn decode(kind: Kind, json: &str, rules: &Rules) -> Decoded {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let mut track = serde_path_to_error::Track::new();
    match kind.deserialize(serde_path_to_error::Deserializer::new(&mut deserializer, &mut track)) {
        Ok(mut object) => {
            let faults = check(&object, rules);
            prune(&mut object);
            Decoded { object: Some(object), faults }
        }
        Err(error) => {
            // The position is of no use to anybody who sees the object in another form.
            let text = error.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            Decoded { object: None, faults: vec![Fault::new(FieldPath::from(&track.path()), one_line(text))] }
        }
    }
}
