//! The question where a pod's network namespace is, and what can be answered.

use std::io;
use std::path::{Path, PathBuf};

use crate::sys::netns::Netns;

/// What is known of a pod whose namespace is sought.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'a> {
    /// The pod's UID.
    pub uid: &'a str,
    /// The path that its manifest gives, if it gives one.
    pub path: Option<&'a Path>,
}

/// A pod's network namespace, open.
#[derive(Debug)]
pub struct Located {
    /// The namespace.
    pub netns: Netns,
    /// By what path it was opened, for operators.
    pub path: PathBuf,
}

/// Why a pod's namespace is not found (yet).
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// The path cannot be opened.
    #[error("its network namespace {path} cannot be opened: {source}")]
    Path {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nothing of the pod runs here.
    #[error(
        "no process of the pod is found in {proc}; has it started, and does the agent see the node's processes (hostPID)?"
    )]
    NoProcess {
        /// Where processes were looked for.
        proc: PathBuf,
    },
    /// Its containers do not agree: one of the namespaces is not the pod's.
    #[error("its containers are in different network namespaces ({0}); which one is the pod's cannot be told")]
    Ambiguous(String),
    /// Its processes came and went while they were looked at.
    #[error("its processes changed while they were looked at")]
    Unsteady,
    /// The processes cannot be listed.
    #[error("the processes in {proc} cannot be listed: {source}")]
    Proc {
        /// Where processes were looked for.
        proc: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Finds the network namespaces of pods. Level-triggered: it is asked again and again, and remembers nothing that it would not
/// find out anew.
pub trait Locate: Send {
    /// Whether the pod's namespace can be found at all; a pod of which that cannot be is not waited for.
    fn can_find(&self, sought: Sought<'_>) -> bool;

    /// Opens the pod's namespace.
    ///
    /// # Errors
    /// [`LocateError`]
    fn open(&mut self, sought: Sought<'_>) -> Result<Located, LocateError>;

    /// Whether the pod is surely no longer in `netns`. In doubt it is.
    fn has_moved(&mut self, sought: Sought<'_>, netns: &Netns) -> bool;
}
