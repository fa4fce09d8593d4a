//! Attaching so that it outlives the agent, and taking over from one that died.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::programs::ProgramError;
use aya::programs::links::{FdLink, LinkError};

use super::error::RedirectError;
use crate::sys::bpf;

/// Makes the link that is pinned at `pin` run `program`. One that an earlier agent left is given the new program, in one
/// atomic step; where there is none, or it is attached to something that is gone, or elsewhere, `attach` makes one.
///
/// `cgroup` is the id of the cgroup to be attached to, for links that are.
pub(super) fn ensure(
    pin: &Path,
    program: BorrowedFd<'_>,
    cgroup: Option<u64>,
    attach: impl FnOnce() -> Result<FdLink, ProgramError>,
) -> Result<(), RedirectError> {
    match adopt(pin, program, cgroup) {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(error) => tracing::debug!(pin = %pin.display(), %error, "the link cannot be taken over: attaching another"),
    }
    let link = attach().map_err(RedirectError::kernel(format!("attach the program for {}", pin.display())))?;
    // Pinned beside the old one and moved over it: at no moment is the path without a link that is attached.
    let next = pin.with_file_name(format!("{}-next", pin.file_name().unwrap_or_default().to_string_lossy()));
    remove(&next)?;
    link.pin(&next).map_err(RedirectError::kernel(format!("pin {}", next.display())))?;
    fs::rename(&next, pin).map_err(RedirectError::path("pin", pin))
}

/// Gives the program to the link at `pin`, if there is one that is attached to the right thing.
pub(super) fn adopt(pin: &Path, program: BorrowedFd<'_>, cgroup: Option<u64>) -> io::Result<bool> {
    let link = match bpf::open_pin(pin) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if let Some(cgroup) = cgroup
        && bpf::link_cgroup(link.as_fd())? != cgroup
    {
        return Ok(false);
    }
    bpf::update_link(link.as_fd(), program)?;
    Ok(true)
}

/// The form of a link that can be pinned; every link of a kernel that has links for this kind of program has it.
pub(super) fn pinnable(link: impl TryInto<FdLink, Error = LinkError>) -> Result<FdLink, ProgramError> {
    link.try_into().map_err(|error| ProgramError::IOError(io::Error::other(error)))
}

/// Removes a directory of pins, and detaches the links in it before this returns: a link whose last pin goes is otherwise
/// detached some time later.
pub(super) fn remove_tree(path: &Path) -> Result<(), RedirectError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(RedirectError::path("list", path)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(RedirectError::path("list", path))?;
        let at = entry.path();
        if entry.file_type().map_err(RedirectError::path("examine", &at))?.is_dir() {
            remove_tree(&at)?;
            continue;
        }
        if let Ok(object) = bpf::open_pin(&at) {
            // A map is no link, and a link whose target is gone is detached already: neither is an error.
            let _ = bpf::detach_link(object.as_fd());
        }
        remove(&at)?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RedirectError::path("remove", path)(error)),
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> Result<(), RedirectError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RedirectError::path("remove", path)(error)),
        _ => Ok(()),
    }
}
