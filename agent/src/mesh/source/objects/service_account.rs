//! `ServiceAccount`: who pods are.

use serde::Deserialize;

use super::meta::{ObjectMeta, nullable};

/// A ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceAccount {
    /// Namespace and name.
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
}
