//! What is wrong with the objects of a source, in words for operators.

use std::fmt;
use std::sync::Arc;

use super::field::FieldPath;
use super::objects::kind::{Kind, ObjectRef};

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

impl Problem {
    /// Whether a pod that ought to be carried may be missing from the mesh, or be there as it was, because of this.
    #[must_use]
    pub fn may_hide_pods(&self) -> bool {
        let decides = |object: &ObjectRef| object.kind == Kind::Pod.name() || object.kind == Kind::Namespace.name();
        match self.effect {
            Effect::Notice => false,
            // An old version of a whole file serves, whatever else is in the new one.
            Effect::LastGoodServes if self.file.is_some() => true,
            Effect::LastGoodServes | Effect::LeftOut => self.object.as_ref().is_none_or(decides),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_decides_about_pods_can_hide_one() {
        let of = |kind, effect| Problem {
            effect,
            ..Fault::new(FieldPath::default(), "x").of(ObjectRef::new(kind, "n", "x"))
        };
        assert!(of(Kind::Pod, Effect::LeftOut).may_hide_pods());
        assert!(of(Kind::Namespace, Effect::LastGoodServes).may_hide_pods());
        assert!(!of(Kind::Service, Effect::LeftOut).may_hide_pods());
        assert!(!of(Kind::AuthorizationPolicy, Effect::Notice).may_hide_pods());
        assert!(Problem::default().may_hide_pods(), "about everything");
        let file = Some("a.yaml".into());
        assert!(Problem { file, ..of(Kind::Service, Effect::LastGoodServes) }.may_hide_pods(), "an old file serves");
    }
}
