//! Netlink requests inside a network namespace.

use std::io;

use futures_util::future::{Either, select};
use rtnetlink::{Error, Handle};

use crate::sys::netns::Netns;

/// The index of `lo`, the same in every network namespace.
pub(super) const LOOPBACK_INDEX: u32 = 1;

/// Opens a netlink socket inside the namespace and drives it while `action` runs.
pub(super) async fn with_handle<T>(netns: &Netns, action: impl AsyncFnOnce(Handle) -> io::Result<T>) -> io::Result<T> {
    let (connection, handle, _notifications) = netns.run(rtnetlink::new_connection)??;
    let action = std::pin::pin!(action(handle));
    match select(std::pin::pin!(connection), action).await {
        Either::Left(((), _)) => Err(io::Error::other("the netlink connection ended early")),
        Either::Right((result, _)) => result,
    }
}

/// Whether it was done; not when it was there already.
pub(super) fn accept_existing(result: Result<(), Error>) -> io::Result<bool> {
    accept(result, &[libc::EEXIST])
}

/// Whether it was done; not when there was nothing.
pub(super) fn accept_missing(result: Result<(), Error>) -> io::Result<bool> {
    accept(result, &[libc::ENOENT, libc::ESRCH])
}

fn accept(result: Result<(), Error>, harmless: &[i32]) -> io::Result<bool> {
    match result.map_err(said) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error().is_some_and(|code| harmless.contains(&code)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the kernel said.
pub(super) fn said(error: Error) -> io::Error {
    if let Error::NetlinkError(message) = &error { message.to_io() } else { io::Error::other(error) }
}
