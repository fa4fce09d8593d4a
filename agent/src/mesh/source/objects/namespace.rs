//! `Namespace`: its labels decide about the pods in it.

use serde::Deserialize;

use super::meta::{ObjectMeta, nullable};

/// A Namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// Name and labels.
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
}
