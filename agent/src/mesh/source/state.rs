//! What a source publishes.

use std::sync::Arc;

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
}
