//! The file system in which eBPF objects are pinned.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Where bpffs is mounted on every distribution.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Whether `path`, or the nearest of its parents that exists, is on bpffs.
///
/// # Errors
/// When even `/` cannot be examined.
pub fn is_on_bpffs(path: &Path) -> io::Result<bool> {
    let mut at = path;
    loop {
        match statfs(at) {
            Ok(found) => return Ok(found.filesystem_type() == BPF_FS_MAGIC),
            Err(nix::Error::ENOENT) => match at.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => at = parent,
                Some(_) | None => return Err(nix::Error::ENOENT.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
}

/// Mounts bpffs on [`BPFFS`] unless it is there already. Safe to do from several processes at once: a second mount on
/// top of the first would hide what is pinned there.
///
/// # Errors
/// When the directory is missing (sysfs is not mounted, or read-only in a container) or `CAP_SYS_ADMIN` is.
pub fn mount_bpffs() -> io::Result<()> {
    let lock = Flock::lock(File::open(BPFFS)?, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    // Whoever waited for the lock holds the directory beneath; the path leads to what has been mounted since.
    if statfs(BPFFS)?.filesystem_type() != BPF_FS_MAGIC {
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700"))?;
    }
    drop(lock);
    Ok(())
}
