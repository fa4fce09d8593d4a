//! What belongs to one pod's network namespace.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use aya::programs::links::{FdLink, LinkOrder};
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{ProgramError, SchedClassifier, SkLookup, TcAttachType};

use super::error::RedirectError;
use super::links;
use super::load::Programs;
use super::pins::Pins;
use crate::sys::netns::{Netns, NetnsCookie};

/// Name of a pod's `sk_lookup` link.
const INBOUND: &str = "inbound";
/// Name of a pod's tcx link on `lo`.
const HOLD: &str = "hold";
/// `lo` has this name in every network namespace.
const LOOPBACK: &str = "lo";

/// Where *hold* sits among the classifiers of kernels without tcx; a place of its own, so that it replaces itself.
const CLSACT_PRIORITY: u16 = 15001;
const CLSACT_HANDLE: TcHandle = TcHandle::new(0, 1);

/// Attaches both programs to a pod, or replaces those that are attached.
pub(super) fn attach(programs: &mut Programs, pins: &Pins, netns: &Netns) -> Result<(), RedirectError> {
    let cookie = netns.cookie();
    let directory = pins.pod(cookie);
    fs::create_dir_all(&directory).map_err(RedirectError::path("make the directory", &directory))?;
    attach_hold(programs.hold()?, &directory.join(HOLD), netns)?;
    let program = programs.inbound()?;
    let fd = duplicate(program.fd())?;
    links::ensure(&directory.join(INBOUND), fd.as_fd(), None, || attach_inbound(program, netns))
}

/// Detaches both programs. On kernels without tcx *hold* stays on `lo`, where it does nothing for a pod that has left.
pub(super) fn detach(pins: &Pins, cookie: NetnsCookie) -> Result<(), RedirectError> {
    links::remove_tree(&pins.pod(cookie))
}

/// Gives the programs to the links that an earlier agent left. `false`: the network namespace is gone.
pub(super) fn adopt(programs: &mut Programs, pins: &Pins, cookie: NetnsCookie) -> Result<bool, RedirectError> {
    let directory = pins.pod(cookie);
    let inbound = duplicate(programs.inbound()?.fd())?;
    let hold = duplicate(programs.hold()?.fd())?;
    for (name, program) in [(INBOUND, inbound), (HOLD, hold)] {
        match links::adopt(&directory.join(name), program.as_fd(), None) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => return Ok(false),
            Err(error) => return Err(RedirectError::path("replace the program of", &directory.join(name))(error)),
        }
    }
    Ok(true)
}

fn attach_inbound(program: &mut SkLookup, netns: &Netns) -> Result<FdLink, ProgramError> {
    let id = program.attach(netns)?;
    Ok(program.take_link(id)?.into())
}

fn attach_hold(program: &mut SchedClassifier, pin: &std::path::Path, netns: &Netns) -> Result<(), RedirectError> {
    let fd = duplicate(program.fd())?;
    if links::adopt(pin, fd.as_fd(), None).unwrap_or(false) {
        return Ok(());
    }
    match in_netns(netns, || attach_tcx(program)) {
        Err(error) if is_unknown_to_kernel(&error) => in_netns(netns, || attach_clsact(program))
            .map_err(RedirectError::kernel(format!("attach the program {}", pin.display()))),
        link => links::ensure(pin, fd.as_fd(), None, || link),
    }
}

/// Since Linux 6.6.
fn attach_tcx(program: &mut SchedClassifier) -> Result<FdLink, ProgramError> {
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(LOOPBACK, TcAttachType::Ingress, options)?;
    links::pinnable(program.take_link(id)?)
}

/// Older kernels: a filter, which lives as long as the device. It cannot be pinned and need not be.
pub(super) fn attach_clsact(program: &mut SchedClassifier) -> Result<(), ProgramError> {
    // It fails where the queueing discipline is there already; if it fails for another reason, so does the next step.
    let _ = tc::qdisc_add_clsact(LOOPBACK);
    let (priority, handle) = (CLSACT_PRIORITY, CLSACT_HANDLE);
    let link = SchedClassifierLink::attached(LOOPBACK, TcAttachType::Ingress, priority, handle, None)
        .map_err(ProgramError::IOError)?;
    let id = match program.attach_to_link(link) {
        Ok(id) => id,
        Err(_) => {
            let options = TcAttachOptions::Netlink(NlOptions { priority, handle, classid: None });
            program.attach_with_options(LOOPBACK, TcAttachType::Ingress, options)?
        }
    };
    // Dropped, the link would take the filter with it.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Whether an attachment failed because the kernel has no such kind: it answers EINVAL.
fn is_unknown_to_kernel(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EINVAL))
}

fn in_netns<T>(netns: &Netns, action: impl FnOnce() -> Result<T, ProgramError>) -> Result<T, ProgramError> {
    netns.run(action).map_err(ProgramError::IOError)?
}

fn duplicate<E: Into<ProgramError>>(
    fd: Result<&aya::programs::ProgramFd, E>,
) -> Result<aya::programs::ProgramFd, RedirectError> {
    fd.map_err(Into::into)
        .and_then(|fd| fd.try_clone().map_err(|error: io::Error| ProgramError::IOError(error)))
        .map_err(RedirectError::kernel("use a loaded program"))
}
