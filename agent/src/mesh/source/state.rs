//! What a source publishes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use crate::model::view::MeshView;

use super::problem::Problem;

/// The mesh as a source knows it, with what is wrong about it.
#[derive(Clone, Debug, Default)]
pub struct MeshState {
    /// The mesh, from everything that is good.
    pub view: Arc<MeshView>,
    /// What is not, in the order of files and lines.
    pub problems: Vec<Problem>,
    /// Grows by one with each state that is published; 0 before the first.
    pub version: u64,
    /// Whether all that was there at the start has been looked at. Until then the absence of a pod means nothing.
    pub loaded: bool,
    /// When this state was made.
    pub made_at: Option<SystemTime>,
    /// UIDs of the pods of this node whose annotation says that they are carried. Only the API server's source tells.
    pub marked: Arc<BTreeSet<Arc<str>>>,
}

impl MeshState {
    /// Whether there may be pods that this state does not show: then nobody may be let go of because he is not in it.
    #[must_use]
    pub fn may_hide_pods(&self) -> bool {
        self.problems.iter().any(Problem::may_hide_pods)
    }
}
