//! Equal texts in one allocation: in a mesh of thousands of pods most of what is said of a pod is said of many.

use std::collections::HashSet;
use std::sync::Arc;

use crate::model::identity::Identity;
use crate::model::policy::selector::Labels;

/// The texts that are in use, each once.
#[derive(Debug, Default)]
pub struct Shared {
    texts: HashSet<Arc<str>>,
    labels: HashSet<Labels>,
    identities: HashSet<Identity>,
}

impl Shared {
    /// This text, in the allocation that all who asked for it share.
    pub fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&new));
        new
    }

    /// These labels, in the allocation that all who asked for them share: the pods of one Deployment have the same.
    pub fn labels(&mut self, labels: &Labels) -> Labels {
        if let Some(known) = self.labels.get(labels) {
            return known.clone();
        }
        let new: Labels = labels.iter().map(|(key, value)| (self.text(key), self.text(value))).collect();
        self.labels.insert(new.clone());
        new
    }

    /// This identity, in the allocations that all who asked for it share.
    pub fn identity(&mut self, identity: Identity) -> Identity {
        if let Some(known) = self.identities.get(&identity) {
            return known.clone();
        }
        self.identities.insert(identity.clone());
        identity
    }

    /// Drops what nobody else uses any more: names of pods that are gone would pile up.
    pub fn forget_unused(&mut self) {
        // Nobody can be asked how many share one: those that come next share among themselves.
        self.identities.clear();
        // Before the texts, which they hold.
        self.labels.retain(|labels| labels.copies() > 1);
        self.texts.retain(|text| Arc::strong_count(text) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(app: &str) -> Labels {
        [("app", app), ("version", "v1")].into_iter().collect()
    }

    #[test]
    fn equal_texts_and_labels_are_one_allocation_until_nobody_uses_them() {
        let mut shared = Shared::default();
        let (text, again) = (shared.text("web"), shared.text("web"));
        assert!(Arc::ptr_eq(&text, &again));
        let (web, web_again, shop) = (labels("web"), labels("web"), labels("shop"));
        let (web, web_again, shop) = (shared.labels(&web), shared.labels(&web_again), shared.labels(&shop));
        assert!(web.is_same(&web_again) && !web.is_same(&shop));
        let value = |labels: &Labels, index| Arc::clone(labels.iter().nth(index).unwrap().1);
        assert!(Arc::ptr_eq(&value(&web, 1), &value(&shop, 1)), "of labels that differ, too");
        assert!(Arc::ptr_eq(&value(&web, 0), &text));
        drop((web, web_again, text, again));
        shared.forget_unused();
        assert_eq!((shared.labels.len(), shared.texts.len()), (1, 4), "{shared:?}");
        assert_eq!(shop.get("app"), Some("shop"));
    }
}
