//! Which workloads a policy is for.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Labels of a pod, or those that a selector asks for: sorted by key, each key once.
///
/// All of them are in one allocation, which copies share: a mesh knows the labels of every pod in two places at least.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(Arc<[Label]>);

/// A key and its value.
type Label = (Arc<str>, Arc<str>);

/// `matchLabels`: selects what has all of these labels; without any, everything in the policy's scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(pub Labels);

impl Labels {
    /// No labels.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a label.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let index = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        Some(&self.0[index].1)
    }

    /// All keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Whether both are one allocation.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// How many copies share the allocation.
    #[must_use]
    pub fn copies(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

/// Of a key that comes twice, the last value counts.
impl<K: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let sorted: BTreeMap<Arc<str>, Arc<str>> =
            labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self(sorted.into_iter().collect())
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(labels: BTreeMap<String, String>) -> Self {
        Self(labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }
}

impl Selector {
    /// Whether it selects by no label at all.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a workload with these labels is selected.
    #[must_use]
    pub fn selects(&self, labels: &Labels) -> bool {
        self.0.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_whatever_order_they_came_in() {
        let labels: Labels =
            [("version", "v1"), ("app", "old"), ("tier", "back"), ("app", "web")].into_iter().collect();
        let keys: Vec<_> = labels.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys, ["app", "tier", "version"]);
        assert_eq!((labels.get("app"), labels.get("tier")), (Some("web"), Some("back")));
        assert_eq!((labels.get("ap"), Labels::new().get("app")), (None, None));
    }
}
