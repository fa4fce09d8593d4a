//! Direct connections between pods of this node, as the agent sees them: whom it lets, which there are, and which have ended.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use aya::maps::{Array, MapData, RingBuf};
use sotto_ebpf::abi::user::read;
use sotto_ebpf::abi::{Address, Flow};
use sotto_ebpf::abi_direct::{DirectFlow, FlowEnd, ending, stage};
use sotto_ebpf::decide::direct::totals;

use super::services::{Endpoints, Services};
use super::verdicts::Verdicts;
use crate::drivers::redirect::error::RedirectError;
use crate::sys::bpf::{self, Map};
use crate::sys::netns::NetnsCookie;
use crate::sys::sock_diag::Carried;

/// The agent's hand on direct connections.
pub struct Direct {
    pub(in crate::drivers::redirect) verdicts: Verdicts,
    pub(in crate::drivers::redirect) services: Services,
    pub(in crate::drivers::redirect) lease: Array<MapData, u64>,
    pub(in crate::drivers::redirect) flows: Map,
    pub(in crate::drivers::redirect) events: RingBuf<MapData>,
}

/// A direct connection that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFlow {
    /// Whose and where.
    pub ends: Ends,
    /// The client's socket, as the kernel numbers it.
    pub socket: u64,
    /// Whether the server has answered.
    pub established: bool,
}

/// A direct connection that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedFlow {
    /// Whose and where.
    pub ends: Ends,
    /// How long it was open.
    pub lasted: Duration,
    /// Bytes from the client to the server.
    pub from_client: u64,
    /// Bytes from the server to the client.
    pub from_server: u64,
    /// How it ended.
    pub ending: Ending,
}

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The verdict under which it was made.
    pub grant: u64,
    /// The client's network namespace.
    pub netns: NetnsCookie,
    /// The client.
    pub client: SocketAddr,
    /// The pod that serves it.
    pub server: SocketAddr,
    /// What the client asked for: a service's address, or the pod's.
    pub asked: SocketAddr,
    /// When it began, on the kernel's boot-time clock.
    pub began: Duration,
}

/// How a direct connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order.
    Closed,
    /// By a reset, or because the other side fell silent.
    Aborted,
    /// Nobody listened, nobody answered, or the verdict had been withdrawn.
    Refused,
    /// It was not a pod of this node that answered; it was cut off before it carried anything.
    Strayed,
}

impl Direct {
    /// Lets a pod connect directly to an address of another pod of this node. `false`: one of the two is not enrolled (any more), or
    /// has not this address.
    ///
    /// # Errors
    /// When the map is full, or the kernel refuses otherwise.
    pub fn grant(
        &self,
        between: (NetnsCookie, NetnsCookie),
        address: SocketAddr,
        number: u64,
    ) -> Result<bool, RedirectError> {
        self.verdicts.grant(between, address, number)
    }

    /// Undoes [`Self::grant`]. A connection on its way is refused when it arrives; those that have arrived are in [`Self::open`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn withdraw(&self, client: NetnsCookie, address: SocketAddr, number: u64) -> Result<(), RedirectError> {
        self.verdicts.withdraw(client, address, number)
    }

    /// Verdicts count for this much longer; with nothing, not at all.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn renew(&mut self, term: Duration) -> Result<(), RedirectError> {
        let until = if term.is_zero() { 0 } else { nanoseconds(bpf::boot_time() + term) };
        self.lease.set(0, until, 0).map_err(RedirectError::kernel("change the map LEASE"))
    }

    /// Says which endpoints are behind the addresses of services.
    ///
    /// # Errors
    /// When a map is full, or the kernel refuses otherwise.
    pub fn set_services(&mut self, services: &Endpoints) -> Result<(), RedirectError> {
        self.services.set(services)
    }

    /// The connections that are open, also those that an earlier agent let.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(&self) -> io::Result<Vec<OpenFlow>> {
        let mut open = Vec::new();
        self.flows.for_each(|key, value| {
            let (Some(flow), Some(entry)) = (read::<Flow>(key), read::<DirectFlow>(value)) else { return };
            let ends = ends(&flow, entry.grant, entry.netns, (entry.asked, entry.asked_port), entry.began_ns);
            open.push(OpenFlow { ends, socket: entry.socket, established: entry.stage == stage::ESTABLISHED });
        })?;
        Ok(open)
    }

    /// The next connection that has ended, in the order of their ends.
    pub fn next_end(&mut self) -> Option<EndedFlow> {
        loop {
            let end = read::<FlowEnd>(&self.events.next()?);
            if let Some(end) = end {
                return Some(ended(&end));
            }
        }
    }
}

/// Bytes of the application that a client's socket, which is open, has sent and received so far.
#[must_use]
pub fn bytes_so_far(carried: &Carried) -> (u64, u64) {
    let Carried { acknowledged, received, state } = *carried;
    // What ends the other side's bytes is not there as long as the socket waits for it.
    let so_far = totals(acknowledged, received, received, state.into());
    (so_far.sent, so_far.received)
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").finish_non_exhaustive()
    }
}

fn ended(end: &FlowEnd) -> EndedFlow {
    EndedFlow {
        ends: ends(&end.flow, end.grant, end.netns, (end.asked, end.asked_port), end.began_ns),
        lasted: Duration::from_nanos(end.ended_ns.saturating_sub(end.began_ns)),
        from_client: end.sent,
        from_server: end.received,
        ending: match end.ending {
            ending::CLOSED => Ending::Closed,
            ending::REFUSED => Ending::Refused,
            ending::STRAYED => Ending::Strayed,
            _ => Ending::Aborted,
        },
    }
}

fn ends(flow: &Flow, grant: u64, netns: u64, asked: (Address, u16), began_ns: u64) -> Ends {
    Ends {
        grant,
        netns: NetnsCookie(netns),
        client: SocketAddr::new(flow.remote.to_ip(), flow.remote_port),
        server: SocketAddr::new(flow.local.to_ip(), flow.local_port),
        asked: SocketAddr::new(asked.0.to_ip(), asked.1),
        began: Duration::from_nanos(began_ns),
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_side_is_no_byte_of_the_application() {
        // ESTABLISHED, FIN-WAIT-2 and CLOSE-WAIT, as the kernel numbers them.
        for (state, expected) in [(1, (17, 6)), (5, (16, 6)), (8, (17, 5))] {
            assert_eq!(bytes_so_far(&Carried { acknowledged: 18, received: 6, state }), expected, "{state}");
        }
        assert_eq!(bytes_so_far(&Carried { acknowledged: 0, received: 0, state: 8 }), (0, 0));
    }
}
