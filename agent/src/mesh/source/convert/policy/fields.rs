//! Reading a spec field by field: what is not known, not of the right type or empty is a fault.

use serde_json::{Map, Value};

use crate::mesh::source::field::{FieldPath, shorten};
use crate::mesh::source::problem::Fault;

/// What was read of an object.
pub(in crate::mesh::source::convert) struct Reading<P> {
    /// What it says; none if it is wrong, or says nothing that is for L4.
    pub(in crate::mesh::source::convert) policy: Option<P>,
    /// What is wrong. The object is not to be used as it is then.
    pub(in crate::mesh::source::convert) faults: Vec<Fault>,
    /// What somebody should know of an object that is right.
    pub(in crate::mesh::source::convert) notices: Vec<Fault>,
}

/// A mapping of a spec, and where faults go.
pub(super) struct Fields<'a> {
    /// None if the mapping is missing.
    map: Option<&'a Map<String, Value>>,
    path: FieldPath,
}

/// The longest list of anything but rules.
const MAX_LIST: usize = 10_000;

impl<'a> Fields<'a> {
    /// Takes a mapping that may have only these fields. What is missing or null reads as an empty mapping.
    pub(super) fn of(value: Option<&'a Value>, path: FieldPath, known: &[&str], faults: &mut Vec<Fault>) -> Self {
        let map = match value {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(map),
            Some(_) => {
                faults.push(Fault::new(path.clone(), "expected a mapping"));
                None
            }
        };
        for key in map.into_iter().flat_map(Map::keys).filter(|key| !known.contains(&key.as_str())) {
            let message = format!("is not a field here; known are {}", known.join(", "));
            faults.push(Fault::new(path.clone().key(key), message));
        }
        Self { map, path }
    }

    /// Where a field is.
    pub(super) fn path(&self, key: &str) -> FieldPath {
        self.path.clone().key(key)
    }

    /// A field's value, unless it is missing or null.
    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map?.get(key).filter(|value| !value.is_null())
    }

    /// A field that holds a text.
    pub(super) fn text(&self, key: &str, faults: &mut Vec<Fault>) -> Option<&'a str> {
        let value = self.value(key)?;
        let text = value.as_str();
        if text.is_none() {
            faults.push(Fault::new(self.path(key), "expected a text"));
        }
        text
    }

    /// A field that holds a list; none if it is not set.
    pub(super) fn list(&self, key: &str, faults: &mut Vec<Fault>) -> Option<&'a [Value]> {
        let message = match self.value(key)?.as_array() {
            Some(list) if list.len() <= MAX_LIST => return Some(list),
            Some(list) => format!("has {} entries; at most {MAX_LIST}", list.len()),
            None => "expected a list".to_owned(),
        };
        faults.push(Fault::new(self.path(key), message));
        Some(&[])
    }

    /// A field that holds a list of texts, each read by `read`. None if it is not set or has no entry, as in Istio.
    pub(super) fn texts<T>(
        &self,
        key: &str,
        faults: &mut Vec<Fault>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let list = self.list(key, faults)?;
        let mut read_all = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            let result = match value {
                Value::String(text) => read(text).map_err(|why| format!("{:?} {why}", shorten(text))),
                Value::Number(number) => Err(format!("expected a text: write \"{number}\"")),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err("expected a text".to_owned()),
            };
            match result {
                Ok(read) => read_all.push(read),
                Err(message) => faults.push(Fault::new(self.path(key).index(index), message)),
            }
        }
        (!list.is_empty()).then_some(read_all)
    }
}
