//! The line of a field in a text. Looked for only once there is something to report about it.

use std::cell::Cell;
use std::fmt;

use serde::de::DeserializeSeed;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::mesh::source::field::{FieldPath, Segment};

use super::yaml;

/// The line (counted from 1) where a field is, or the innermost of its parents that is there.
pub(super) fn line(text: &str, field: &FieldPath) -> Option<u64> {
    let mut path = field.segments();
    loop {
        let reached = Cell::new(0);
        let probe = Probe { path, reached: &reached };
        let result = serde_saphyr::with_deserializer_from_str_with_options(text, yaml::options(), |deserializer| {
            probe.deserialize(deserializer)
        });
        // The probe stops the reading with an error where it finds what it looks for, and errors know their line.
        match result {
            Err(error) if reached.get() == path.len() => return yaml::line_of(&error),
            _ if path.is_empty() => return None,
            _ => path = &path[..reached.get().min(path.len() - 1)],
        }
    }
}

/// Follows a path; reading fails at its end.
struct Probe<'a> {
    path: &'a [Segment],
    /// How many steps of the path were found.
    reached: &'a Cell<usize>,
}

impl Probe<'_> {
    fn next(&self) -> Self {
        self.reached.set(self.reached.get() + 1);
        Self { path: &self.path[1..], reached: self.reached }
    }
}

impl<'de> DeserializeSeed<'de> for Probe<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path.first() {
            None => deserializer.deserialize_any(Stop),
            Some(Segment::Key(_)) => deserializer.deserialize_map(self),
            Some(Segment::Index(_)) => deserializer.deserialize_seq(self),
        }
    }
}

impl<'de> Visitor<'de> for Probe<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.path.first() {
                Some(Segment::Key(wanted)) if *wanted == key => return map.next_value_seed(self.next()),
                _ => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Err(A::Error::custom("not found"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        if let Some(Segment::Index(wanted)) = self.path.first() {
            for _ in 0..*wanted {
                if sequence.next_element::<IgnoredAny>()?.is_none() {
                    return Err(A::Error::custom("not found"));
                }
            }
            if let Some(()) = sequence.next_element_seed(self.next())? {
                return Ok(());
            }
            self.reached.set(self.reached.get() - 1);
        }
        Err(A::Error::custom("not found"))
    }
}

/// Takes no value: where reading fails is what is asked for.
struct Stop;

impl Visitor<'_> for Stop {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end of the path")
    }
}
