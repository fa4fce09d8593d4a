//! `metadata`, which every object has.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::model::policy::selector::Labels;

/// Annotations or what a selector asks for: keys and values, sorted.
pub type StringMap = BTreeMap<String, String>;

/// The part of `metadata` that is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// The object's name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// Its namespace; empty for cluster-wide kinds, and in manifests that mean `default`.
    #[serde(deserialize_with = "nullable")]
    pub namespace: String,
    /// The API server's UID; empty in manifests.
    #[serde(deserialize_with = "nullable")]
    pub uid: String,
    /// Labels.
    #[serde(deserialize_with = "nullable")]
    pub labels: Labels,
    /// Annotations.
    #[serde(deserialize_with = "nullable")]
    pub annotations: StringMap,
    /// The objects that this one belongs to.
    #[serde(deserialize_with = "nullable")]
    pub owner_references: Vec<OwnerReference>,
    /// When the object was made, in RFC 3339 and UTC; missing in manifests.
    pub creation_timestamp: Option<String>,
    /// When the object was asked to go; set while a pod terminates.
    pub deletion_timestamp: Option<String>,
}

/// An object that owns another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// The owner's kind.
    #[serde(deserialize_with = "nullable")]
    pub kind: String,
    /// The owner's name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// Whether this is the one owner that manages the object.
    #[serde(deserialize_with = "nullable")]
    pub controller: bool,
}

impl ObjectMeta {
    /// The namespace, `default` where a manifest gives none.
    #[must_use]
    pub fn namespace_or_default(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }

    /// A label's value, unless it is missing or empty.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).filter(|value| !value.is_empty())
    }

    /// Whether the object is on its way out.
    #[must_use]
    pub fn is_terminating(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

/// Reads `null` as the empty value: Kubernetes writes both.
///
/// # Errors
/// What the type itself says of other values.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
