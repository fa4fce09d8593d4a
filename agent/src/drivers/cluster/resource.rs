//! Which collections of objects can be followed.

/// A collection of the API: all objects of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The API group; empty for the core.
    pub group: &'static str,
    /// Versions that are understood, the best one first.
    pub versions: &'static [&'static str],
    /// The name in paths: `pods`.
    pub plural: &'static str,
}

impl Resource {
    /// Where the versions of its group are: `/api` or `/apis/GROUP`.
    pub(super) fn base(&self) -> String {
        if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) }
    }

    /// The path of all objects in one version.
    pub(super) fn path(&self, version: &str) -> String {
        format!("{}/{version}/{}", self.base(), self.plural)
    }
}
