//! One process in /proc, held so that its number cannot come to mean another one in between.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fstat};

/// More than the cgroups of any process take, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// An open `/proc/PID`. It stays this very process's: once that has ended, reading fails, whoever has the number then.
#[derive(Debug)]
pub(super) struct Process {
    directory: OwnedFd,
}

/// Tells a network namespace from all others that exist: device and inode of its file.
pub(super) type NetnsId = (u64, u64);

impl Process {
    pub(super) fn open(proc: &Path, pid: u32) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { directory: open(&proc.join(pid.to_string()), flags, Mode::empty())? })
    }

    /// The names of its cgroups.
    pub(super) fn cgroups(&self) -> io::Result<String> {
        self.text("cgroup")
    }

    /// When it started, in ticks since the machine did.
    pub(super) fn started(&self) -> io::Result<u64> {
        let stat = self.text("stat")?;
        // The name in parentheses may hold anything; the 22nd field is the 20th after it.
        let field = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok());
        field.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Opens its network namespace.
    pub(super) fn netns(&self) -> io::Result<(OwnedFd, NetnsId)> {
        let namespace = openat(&self.directory, "ns/net", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let FileStat { st_dev, st_ino, .. } = fstat(&namespace)?;
        Ok((namespace, (st_dev, st_ino)))
    }

    fn text(&self, name: &str) -> io::Result<String> {
        let file = openat(&self.directory, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut bytes = Vec::new();
        File::from(file).take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
