//! What the data path asks the programs' maps, from any thread.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use sotto_ebpf::abi::user::{bytes, bytes_mut};
use sotto_ebpf::abi::{Address, OriginalDestination, SocketNote, SourceKey};

use crate::sys::bpf::Map;
use crate::sys::netns::NetnsCookie;

/// Handle to what is known about single sockets. Clones share it, without a lock: each call is one system call.
#[derive(Clone, Debug)]
pub struct Sockets {
    notes: Arc<Map>,
    original_destinations: Arc<Map>,
}

/// Where a captured connection wanted to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What the application asked for.
    pub destination: SocketAddr,
    /// The endpoint that the programs picked for it, if it is a service's and they know its endpoints.
    pub picked: Option<SocketAddr>,
}

impl Sockets {
    pub(in crate::drivers::redirect) fn new(notes: OwnedFd, original_destinations: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            notes: Arc::new(Map::new(notes, size_of::<libc::c_int>(), size_of::<SocketNote>())?),
            original_destinations: Arc::new(Map::new(
                original_destinations,
                size_of::<SourceKey>(),
                size_of::<OriginalDestination>(),
            )?),
        })
    }

    /// Says, before its connect(), that a socket is the agent's and leaves the pod: it is not captured.
    ///
    /// # Errors
    /// When the socket has no room for the note. It must not connect then: its connection would come back to the agent.
    pub fn note_own(&self, socket: &impl AsFd) -> io::Result<()> {
        self.note(socket, SocketNote::OWN)
    }

    /// Says, before its connect(), that a socket of the agent goes to the pod's own application, from whatever source
    /// address: it is not captured, and it is not taken for plain text from outside when it arrives.
    ///
    /// # Errors
    /// As [`Self::note_own`].
    pub fn note_delivery(&self, socket: &impl AsFd) -> io::Result<()> {
        self.note(socket, SocketNote::DELIVERY)
    }

    /// Where a connection wanted to go, and the endpoint that the programs picked for it, that an outbound listener of this pod has accepted from `source`. Once only: the
    /// answer is forgotten with this. `None`: the connection was not captured, or too many were waiting; reset it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take_original_destination(&self, netns: NetnsCookie, source: SocketAddr) -> io::Result<Option<Wanted>> {
        let key = SourceKey::new(netns.0, Address::from_ip(source.ip()), source.port());
        let none = Address([0; 4]);
        let mut value =
            OriginalDestination { written_ns: 0, ip: none, picked: none, port: 0, picked_port: 0, padding: 0 };
        let found = self.original_destinations.take(bytes(&key), bytes_mut(&mut value))?;
        Ok(found.then(|| Wanted {
            destination: SocketAddr::new(value.ip.to_ip(), value.port),
            picked: (value.picked_port != 0).then(|| SocketAddr::new(value.picked.to_ip(), value.picked_port)),
        }))
    }

    fn note(&self, socket: &impl AsFd, kind: u32) -> io::Result<()> {
        let key = socket.as_fd().as_raw_fd().to_ne_bytes();
        self.notes.update(&key, bytes(&SocketNote::of_kind(kind)))
    }
}

// The data path's threads share it.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Sockets>();
};
