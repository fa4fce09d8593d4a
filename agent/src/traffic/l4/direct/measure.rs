//! What open direct connections have carried so far, in the kernel's numbers.

use std::io;

use super::grants::Grants;
use super::namespaces::Namespaces;
use crate::drivers::redirect::{OpenFlow, bytes_so_far};
use crate::sys::sock_diag::Connection;

/// Bytes from the client and from the server so far. None of a connection that is just ending, or that nobody knows the pods of.
///
/// # Errors
/// What the kernel says.
pub(super) fn bytes(grants: &Grants, flow: &OpenFlow, namespaces: &mut Namespaces) -> io::Result<Option<(u64, u64)>> {
    let Some(grant) = grants.get(flow.ends.grant) else { return Ok(None) };
    let socket = Connection { local: flow.ends.client, remote: flow.ends.server, cookie: Some(flow.socket) };
    let carried = namespaces.of(&grant.source.netns)?.carried(&socket)?;
    Ok(carried.as_ref().map(bytes_so_far))
}
