//! What is wrong with the objects of a source, in words for operators.

use std::fmt;
use std::sync::Arc;

use super::field::FieldPath;
use super::objects::kind::ObjectRef;

/// One thing that is wrong. Prints as `demo.yaml:12: Service demo/web: spec.ports[0].port: must be …`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// The file, by name; none where the objects do not come from files, or the whole directory is meant.
    pub file: Option<Arc<str>>,
    /// The line in the file, counted from 1.
    pub line: Option<u64>,
    /// The object, if it is known.
    pub object: Option<ObjectRef>,
    /// The field of the object; empty for the object itself.
    pub field: FieldPath,
    /// What is wrong and what would be right.
    pub message: String,
    /// What serves in place of what is wrong.
    pub effect: Effect,
}

/// What a [`Problem`] means for the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// The object (or what the message names) is left out.
    #[default]
    LeftOut,
    /// What was read last without a problem keeps serving.
    LastGoodServes,
    /// The object is in force, but not as somebody may expect of it.
    Notice,
}

/// A wrong value in one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where in the object.
    pub field: FieldPath,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Fault {
    /// A fault of the field at `field`.
    pub fn new(field: FieldPath, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }

    /// This fault as a problem of `object`.
    #[must_use]
    pub fn of(self, object: ObjectRef) -> Problem {
        Problem { object: Some(object), field: self.field, message: self.message, ..Problem::default() }
    }

    /// As [`Self::of`], for something about an object that is in force.
    #[must_use]
    pub fn notice_of(self, object: ObjectRef) -> Problem {
        Problem { effect: Effect::Notice, ..self.of(object) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, _) => {}
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        match self.effect {
            Effect::LeftOut | Effect::Notice => Ok(()),
            Effect::LastGoodServes => f.write_str(" (what was there before keeps serving)"),
        }
    }
}
