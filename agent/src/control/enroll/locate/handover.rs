//! The path that the container runtime gives for a pod's sandbox, through the CNI plugin.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::processes::ByProcesses;
use super::{Locate, LocateError, Located, Sought};
use crate::model::arrival::Arrivals;
use crate::sys::netns::Netns;

/// Finds pods that were handed over by their sandbox's path, and all others by their processes.
#[derive(Debug)]
pub struct ByHandover {
    arrivals: watch::Receiver<Arc<Arrivals>>,
    /// The root of the node's file system.
    root: PathBuf,
    others: ByProcesses,
}

impl ByHandover {
    /// `proc` is where the node's processes are; the first of them sees the node's file system.
    #[must_use]
    pub fn new(arrivals: watch::Receiver<Arc<Arrivals>>, proc: PathBuf) -> Self {
        Self { arrivals, root: proc.join("1/root"), others: ByProcesses::new(proc) }
    }

    fn path(&self, sought: Sought<'_>) -> Option<PathBuf> {
        let arrivals = self.arrivals.borrow();
        let path = &arrivals.get(sought.uid)?.netns;
        Some(self.root.join(path.strip_prefix("/").unwrap_or(path)))
    }
}

impl Locate for ByHandover {
    fn can_find(&self, sought: Sought<'_>) -> bool {
        self.path(sought).is_some() || self.others.can_find(sought)
    }

    fn open(&mut self, sought: Sought<'_>) -> Result<Located, LocateError> {
        let opened = self.path(sought).map(|path| open(&path));
        match opened {
            Some(Ok(located)) => Ok(located),
            // The sandbox may have gone, and another one of the pod be there.
            Some(Err(error)) => self.others.open(sought).map_err(|_| error),
            None => self.others.open(sought),
        }
    }

    fn has_moved(&mut self, sought: Sought<'_>, netns: &Netns) -> bool {
        match self.path(sought) {
            Some(path) if netns.is_at(&path) => false,
            _ => self.others.has_moved(sought, netns),
        }
    }
}

fn open(path: &Path) -> Result<Located, LocateError> {
    match Netns::open(path) {
        Ok(netns) => Ok(Located { netns, path: path.to_owned() }),
        Err(source) => Err(LocateError::Path { path: path.to_owned(), source }),
    }
}
