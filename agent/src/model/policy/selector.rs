//! Which workloads a policy is for.

use std::collections::BTreeMap;

/// Labels of a pod, or those that a selector asks for.
pub type Labels = BTreeMap<String, String>;

/// `matchLabels`: selects what has all of these labels; without any, everything in the policy's scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(pub Labels);

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
