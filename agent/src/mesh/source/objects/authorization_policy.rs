//! `AuthorizationPolicy`: who may talk to whom.

use serde::Deserialize;
use serde_json::Value;

use super::meta::{ObjectMeta, nullable};

/// An AuthorizationPolicy. Its spec stays as it is written: a field that is misspelt there must not read as one that is not
/// set, since that would let more in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AuthorizationPolicy {
    /// Namespace, name, annotations.
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    /// `selector`, `action`, `rules`, `targetRefs`
    pub spec: Value,
}
