//! Policies by the workloads that they are for, so that finding those of one workload does not look at all.

use std::collections::HashMap;
use std::sync::Arc;

use super::selector::{Labels, Selector};

/// Policies of one kind by namespace and, where they have a selector, by the rarest of its labels.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Index<P> {
    namespaces: HashMap<Arc<str>, Scope<P>>,
}

/// The policies that ask for one label, by the value that they ask for.
type ByValue<P> = HashMap<Arc<str>, Vec<Arc<P>>>;

#[derive(Debug, PartialEq, Eq)]
struct Scope<P> {
    unselective: Vec<Arc<P>>,
    by_label: HashMap<Arc<str>, ByValue<P>>,
}

/// What an [`Index`] has to know of a policy.
pub(super) trait Scoped {
    fn namespace(&self) -> &Arc<str>;
    fn selector(&self) -> &Selector;
}

impl<P: Scoped> Index<P> {
    pub(super) fn new(policies: Vec<P>) -> Self {
        let policies: Vec<Arc<P>> = policies.into_iter().map(Arc::new).collect();
        let mut frequency: HashMap<(&str, &str), usize> = HashMap::new();
        for (key, value) in policies.iter().flat_map(|policy| policy.selector().0.iter()) {
            *frequency.entry((&**key, &**value)).or_default() += 1;
        }
        let mut index = Self::default();
        for policy in &policies {
            let labels = policy.selector().0.iter();
            let rarest = labels.min_by_key(|(key, value)| frequency.get(&(&**key, &**value)).copied());
            let scope = index.namespaces.entry(Arc::clone(policy.namespace())).or_default();
            let place = match rarest {
                None => &mut scope.unselective,
                Some((key, value)) => {
                    let values = scope.by_label.entry(Arc::clone(key)).or_default();
                    values.entry(Arc::clone(value)).or_default()
                }
            };
            place.push(Arc::clone(policy));
        }
        index
    }

    /// All policies, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<P>> {
        self.namespaces.values().flat_map(|scope| {
            scope.unselective.iter().chain(scope.by_label.values().flat_map(HashMap::values).flatten())
        })
    }

    /// The policies of a namespace that have no selector.
    pub(super) fn unselective(&self, namespace: &str) -> &[Arc<P>] {
        self.namespaces.get(namespace).map_or(&[], |scope| &scope.unselective)
    }

    /// The policies of a namespace whose selector selects these labels.
    pub(super) fn selecting<'a>(&'a self, namespace: &str, labels: &'a Labels) -> impl Iterator<Item = &'a Arc<P>> {
        let scope = self.namespaces.get(namespace);
        let candidates = scope.into_iter().flat_map(move |scope| {
            labels.iter().filter_map(|(key, value)| scope.by_label.get(key)?.get(value)).flatten()
        });
        candidates.filter(|policy| policy.selector().selects(labels))
    }
}

impl<P> Default for Index<P> {
    fn default() -> Self {
        Self { namespaces: HashMap::new() }
    }
}

impl<P> Default for Scope<P> {
    fn default() -> Self {
        Self { unselective: Vec::new(), by_label: HashMap::new() }
    }
}
