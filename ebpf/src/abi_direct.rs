//! Layouts of what concerns direct connections between two pods of the node. A change here is a change of [`crate::abi::LAYOUT`].

use crate::abi::{Address, Flow};

/// `VERDICTS`: pairs of pods of this node, with the port, that may talk to each other directly.
pub const MAX_VERDICTS: usize = 65_536;
/// `DIRECT_FLOWS`: connections between pods of this node that are open at once.
pub const MAX_DIRECT_FLOWS: usize = 262_144;
/// `SERVICES`: ports of services with an endpoint on this node.
pub const MAX_SERVICE_PORTS: usize = 16_384;
/// `ENDPOINTS`: what is behind them.
pub const MAX_ENDPOINTS: usize = 262_144;
/// `FLOW_EVENTS`: bytes of the ring; some 30,000 connections may end between two looks of the agent.
pub const FLOW_EVENTS_BYTES: usize = 4 << 20;

/// `VERDICTS`: who may connect directly to what on this node.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VerdictKey {
    /// Cookie of the client's network namespace.
    pub netns: u64,
    /// The server's address.
    pub ip: Address,
    /// The server's port.
    pub port: u16,
    /// Always 0.
    pub padding: [u16; 3],
}

impl VerdictKey {
    /// A key with its padding in order.
    #[inline(always)]
    #[must_use]
    pub const fn new(netns: u64, ip: Address, port: u16) -> Self {
        Self { netns, ip, port, padding: [0; 3] }
    }
}

/// `DIRECT_FLOWS`: what is known about a direct connection; the entry is there for as long as the client's socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectFlow {
    /// The verdict that let it go. It lets the connection in only while it is in force.
    pub grant: u64,
    /// Cookie of the client's network namespace.
    pub netns: u64,
    /// Cookie of the client's socket.
    pub socket: u64,
    /// When it began: nanoseconds on `CLOCK_BOOTTIME`.
    pub began_ns: u64,
    /// Where the application wanted to go; a service's address, or the pod's.
    pub asked: Address,
    /// Its port.
    pub asked_port: u16,
    /// Always 0.
    pub padding: u16,
    /// A constant of [`stage`].
    pub stage: u32,
}

/// `DIRECT_FLOWS`: how far a direct connection has come.
pub mod stage {
    /// The client's first packet leaves.
    pub const BEGUN: u32 = 0;
    /// It has arrived in a pod of this node, and was let in.
    pub const ARRIVED: u32 = 1;
    /// The client has the server's answer.
    pub const ESTABLISHED: u32 = 2;
}

/// An address with its port: the key of `SERVICES`, and the value of `ENDPOINTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The address.
    pub ip: Address,
    /// The port.
    pub port: u16,
    /// Always 0.
    pub padding: u16,
}

impl Target {
    /// A target with its padding in order.
    #[inline(always)]
    #[must_use]
    pub const fn new(ip: Address, port: u16) -> Self {
        Self { ip, port, padding: 0 }
    }
}

/// `SERVICES`: which endpoints are behind a service's port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointSet {
    /// The set's number; a set never changes, another takes its place.
    pub number: u32,
    /// How many there are.
    pub count: u32,
}

/// `ENDPOINTS`: one of a set.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndpointKey {
    /// The set's number.
    pub set: u32,
    /// Counted from 0.
    pub index: u32,
}

/// `FLOW_EVENTS`: a direct connection has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEnd {
    /// See [`DirectFlow::grant`].
    pub grant: u64,
    /// See [`DirectFlow::netns`].
    pub netns: u64,
    /// See [`DirectFlow::began_ns`].
    pub began_ns: u64,
    /// When it ended.
    pub ended_ns: u64,
    /// Bytes from the client that the server has acknowledged.
    pub sent: u64,
    /// Bytes that the client has received.
    pub received: u64,
    /// Its addresses and ports as the server sees them.
    pub flow: Flow,
    /// See [`DirectFlow::asked`].
    pub asked: Address,
    /// Its port.
    pub asked_port: u16,
    /// Always 0.
    pub padding: u16,
    /// A constant of [`ending`].
    pub ending: u32,
    /// Always 0.
    pub padding_too: u32,
}

/// `FLOW_EVENTS`: how a direct connection ended.
pub mod ending {
    /// Both sides, or at least one, said that it was over.
    pub const CLOSED: u32 = 0;
    /// Reset, or timed out.
    pub const ABORTED: u32 = 1;
    /// Nobody listened, or nobody answered.
    pub const REFUSED: u32 = 2;
    /// It was answered by somebody who is no pod of this node, and cut off before it carried anything.
    pub const STRAYED: u32 = 3;
}

const _: () = {
    assert!(size_of::<VerdictKey>() == 32);
    assert!(size_of::<DirectFlow>() == 56);
    assert!(size_of::<Target>() == 20);
    assert!(size_of::<EndpointSet>() == 8);
    assert!(size_of::<EndpointKey>() == 8);
    assert!(size_of::<FlowEnd>() == 112);
};
