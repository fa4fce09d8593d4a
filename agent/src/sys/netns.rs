//! Network namespaces: hold one, act inside one, tell them apart.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;
use socket2::{Domain, Socket, Type};

/// The number by which the kernel, and so the eBPF programs, tell network namespaces apart. Never reused while the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsCookie(pub u64);

/// `SO_NETNS_COOKIE` (since Linux 5.14), not in the libc crate for every target.
const SO_NETNS_COOKIE: libc::c_int = 71;

impl NetnsCookie {
    /// The cookie of the network namespace that the calling thread is in.
    ///
    /// # Errors
    /// When no socket can be made, or the kernel is older than 5.14.
    pub fn of_this_thread() -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        let mut cookie = 0u64;
        let mut length = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the pointers lead to a u64 and its length, both alive during the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        };
        if result == 0 { Ok(Self(cookie)) } else { Err(io::Error::last_os_error()) }
    }
}

/// An open network namespace. The namespace lives at least as long as this.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    home: OwnedFd,
    cookie: NetnsCookie,
}

impl Netns {
    /// Opens the namespace that is mounted at `path` (`/run/netns/NAME`, `/proc/PID/ns/net`).
    ///
    /// # Errors
    /// When the path cannot be opened, is no network namespace, or the process may not enter it (`CAP_SYS_ADMIN`).
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::from_fd(File::open(path)?.into())
    }

    /// Takes a namespace that has been opened already.
    ///
    /// # Errors
    /// When it is no network namespace, or the process may not enter it (`CAP_SYS_ADMIN`).
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let home = File::open("/proc/thread-self/ns/net")?.into();
        let mut netns = Self { fd, home, cookie: NetnsCookie(0) };
        netns.cookie = netns.run(NetnsCookie::of_this_thread)??;
        Ok(netns)
    }

    /// The namespace's cookie.
    #[must_use]
    pub fn cookie(&self) -> NetnsCookie {
        self.cookie
    }

    /// Whether `path` still leads to this namespace. In doubt it does: only what is surely gone or replaced does not.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        let there = match fs::metadata(path) {
            Ok(there) => there,
            Err(error) => return error.kind() != io::ErrorKind::NotFound,
        };
        fstat(&self.fd).map_or(true, |here| (here.st_dev, here.st_ino) == (there.dev(), there.ino()))
    }

    /// Whether this namespace is the file with this device and inode. While it is open, no other has them.
    #[must_use]
    pub fn is_file(&self, (device, inode): (u64, u64)) -> bool {
        fstat(&self.fd).is_ok_and(|here| (here.st_dev, here.st_ino) == (device, inode))
    }

    /// Runs `action` with the calling thread inside this namespace; sockets made there stay in it.
    ///
    /// The process ends at once if the thread cannot go back: a thread in the wrong namespace would send one pod's traffic
    /// from another.
    ///
    /// # Errors
    /// When the namespace cannot be entered; `action` did not run then.
    pub fn run<T>(&self, action: impl FnOnce() -> T) -> io::Result<T> {
        setns(&self.fd, CloneFlags::CLONE_NEWNET)?;
        let back = Return(&self.home);
        let result = action();
        drop(back);
        Ok(result)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Takes the thread home, also when the action panics.
struct Return<'a>(&'a OwnedFd);

impl Drop for Return<'_> {
    fn drop(&mut self) {
        if let Err(error) = setns(self.0, CloneFlags::CLONE_NEWNET) {
            tracing::error!(%error, "cannot leave a pod's network namespace; ending");
            std::process::abort();
        }
    }
}
