//! Ending connections that no byte of passes through the agent: the kernel closes their sockets, and both sides see a reset.

use std::collections::HashMap;
use std::io;

use super::grants::{Grant, Grants};
use super::namespaces::Namespaces;
use crate::drivers::redirect::OpenFlow;
use crate::sys::sock_diag::{Connection, SockDiag};

/// Severs those of the open connections whose verdict is revoked. Says how many.
///
/// # Errors
/// The last one, after all have been tried.
pub(super) fn sever(grants: &Grants, open: &[OpenFlow]) -> io::Result<usize> {
    let revoked: HashMap<u64, &Grant> = grants.revoked().collect();
    let (mut namespaces, mut severed, mut result) = (Namespaces::default(), 0, Ok(()));
    for flow in open {
        let Some(grant) = revoked.get(&flow.ends.grant) else { continue };
        match end(&mut namespaces, flow, grant) {
            Ok(()) => severed += 1,
            Err(error) => result = Err(error),
        }
    }
    result.map(|()| severed)
}

/// The server's socket first: its reset is how the client learns of it. The client's own may outlive that where the reset does not
/// arrive, or where the server's was gone already.
fn end(namespaces: &mut Namespaces, flow: &OpenFlow, grant: &Grant) -> io::Result<()> {
    let (client, server) = (flow.ends.client, flow.ends.server);
    let theirs = Connection { local: server, remote: client, cookie: None };
    let own = Connection { local: client, remote: server, cookie: Some(flow.socket) };
    namespaces.of(&grant.destination.netns)?.destroy(&theirs)?;
    namespaces.of(&grant.source.netns)?.destroy(&own)?;
    Ok(())
}

/// Whether this kernel can do it.
///
/// # Errors
/// When it does not even say.
pub(super) fn is_possible() -> io::Result<bool> {
    SockDiag::open()?.can_destroy()
}
