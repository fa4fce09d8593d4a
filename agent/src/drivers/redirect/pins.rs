//! Where everything is pinned.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sotto_ebpf::abi::LAYOUT;

use super::error::RedirectError;
use super::links;
use crate::sys::netns::NetnsCookie;

/// How long a lock may outlive the agent that had it: its end is not at once, and a process that it was just starting shares its
/// descriptors for a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// The agent's directory on bpffs.
#[derive(Debug)]
pub(super) struct Pins {
    base: PathBuf,
    root: PathBuf,
    /// Ends with the process, however that ends.
    _lock: File,
}

impl Pins {
    /// Makes the directories that are missing, for one agent at a time.
    pub(super) fn create(base: &Path) -> Result<Self, RedirectError> {
        let pins = Self { base: base.to_owned(), root: base.join(version_name(LAYOUT)), _lock: lock(base)? };
        for directory in [pins.links(), pins.pods()] {
            fs::create_dir_all(&directory).map_err(RedirectError::path("make the directory", &directory))?;
        }
        Ok(pins)
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.links().join(name)
    }

    pub(super) fn pod(&self, cookie: NetnsCookie) -> PathBuf {
        self.pods().join(cookie.0.to_string())
    }

    /// The pods that have a directory.
    pub(super) fn attached_pods(&self) -> Result<Vec<NetnsCookie>, RedirectError> {
        let directory = self.pods();
        let names = names(&directory).map_err(RedirectError::path("list", &directory))?;
        Ok(names.iter().filter_map(|name| name.parse().ok().map(NetnsCookie)).collect())
    }

    /// The directories of agents with another layout.
    pub(super) fn predecessors(&self) -> Result<Vec<PathBuf>, RedirectError> {
        let names = names(&self.base).map_err(RedirectError::path("list", &self.base))?;
        let current = version_name(LAYOUT);
        Ok(names.into_iter().filter(|name| *name != current).map(|name| self.base.join(name)).collect())
    }

    /// Detaches and removes everything, predecessors included. Captures end first, so that no connection is handed to an
    /// agent that is gone.
    pub(super) fn remove_all(&self) -> Result<(), RedirectError> {
        for predecessor in self.predecessors()? {
            links::remove_tree(&predecessor)?;
        }
        links::remove_tree(&self.links())?;
        links::remove_tree(&self.base)
    }

    fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }
}

/// Locks the agent's directory: two agents with one directory would undo each other's work.
fn lock(base: &Path) -> Result<File, RedirectError> {
    let start = Instant::now();
    loop {
        fs::create_dir_all(base).map_err(RedirectError::path("make the directory", base))?;
        let directory = match File::open(base) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(RedirectError::path("open the directory", base))?,
        };
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => {
                thread::sleep(LOCK_RETRY);
                continue;
            }
            Err(TryLockError::WouldBlock) => return Err(RedirectError::InUse(base.to_owned())),
            Err(TryLockError::Error(error)) => return Err(RedirectError::path("lock the directory", base)(error)),
        }
        // An agent that was just ending has removed what was opened here, and with it the meaning of its lock.
        let locked = directory.metadata().map_err(RedirectError::path("examine", base))?;
        if fs::metadata(base).is_ok_and(|there| there.ino() == locked.ino()) {
            return Ok(directory);
        }
    }
}

fn version_name(layout: u32) -> String {
    format!("v{layout}")
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
