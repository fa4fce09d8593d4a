//! The redirection's one owner and writer.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::Duration;

use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, SockHash};
use sotto_ebpf::abi::{
    Address, Flow, ListenerKey, OriginalDestination, PodAddresses, Role, SYN_RETRY_FRACTION, SourceKey,
};
use sotto_ebpf::abi_direct::DirectFlow;

use super::config::Config;
use super::error::RedirectError;
use super::features::Facts;
use super::fill::Maps;
use super::load::Programs;
use super::maps::counters::Counters;
use super::maps::direct::Direct;
use super::maps::kubelets::Kubelets;
use super::maps::services::Services;
use super::maps::sockets::Sockets;
use super::maps::verdicts::Verdicts;
use super::pins::Pins;
use super::pods;
use crate::sys::netns::{Netns, NetnsCookie};
use crate::sys::{bpf, clock};

/// The programs and maps of one node's agent.
///
/// Dropping it changes nothing in the kernel: pods stay enrolled, and their new connections wait for the next agent.
/// [`Redirect::release`] is the end.
pub struct Redirect {
    pins: Pins,
    pub(super) programs: Programs,
    pods: HashMap<MapData, u64, PodAddresses>,
    listeners: SockHash<MapData, ListenerKey>,
    pub(super) original_destinations: HashMap<MapData, SourceKey, OriginalDestination>,
    counters: PerCpuArray<MapData, u64>,
    sockets: Sockets,
    verdicts: Verdicts,
    direct: Option<Direct>,
}

impl Redirect {
    /// Loads and attaches the programs, or takes over from an agent that is gone: its pods stay enrolled without a gap.
    ///
    /// Blocks for some tens of milliseconds.
    ///
    /// # Errors
    /// When the binary has no programs, the machine lacks something, or the kernel refuses.
    pub fn load(config: &Config) -> Result<Self, RedirectError> {
        let facts = Facts::gather(&config.pin_dir, config.cgroup.as_deref())?;
        let cgroup = facts.judge().map_err(RedirectError::Missing)?;
        let pins = Pins::create(&config.pin_dir)?;
        let mut programs = Programs::load(config, &pins)?;
        let sockets = sockets(&pins)?;
        let original_destinations = programs.take_map("ORIGINAL_DESTINATIONS")?;
        let direct = direct(&mut programs, &pins)?;
        let mut redirect = Self {
            pods: programs.take_map("PODS")?.try_into().map_err(unusable("PODS"))?,
            listeners: programs.take_map("LISTENERS")?.try_into().map_err(unusable("LISTENERS"))?,
            original_destinations: original_destinations.try_into().map_err(unusable("ORIGINAL_DESTINATIONS"))?,
            counters: programs.take_map("COUNTERS")?.try_into().map_err(unusable("COUNTERS"))?,
            sockets,
            verdicts: direct.verdicts.clone(),
            direct: Some(direct),
            programs,
            pins,
        };
        redirect.adopt_pods()?;
        hurry_first_packets(&mut redirect.programs)?;
        redirect.programs.attach(&cgroup, &redirect.pins)?;
        for predecessor in redirect.predecessors()? {
            tracing::warn!(path = %predecessor.display(), "an agent with another layout was here: its pods stay held until they are enrolled again");
        }
        Ok(redirect)
    }

    /// Attaches the programs of a pod's network namespace, or brings them up to date. Do this, and [`Self::listen`], before
    /// [`Self::enrol`].
    ///
    /// # Errors
    /// When the kernel refuses; calling it again is safe.
    pub fn attach_pod(&mut self, netns: &Netns) -> Result<(), RedirectError> {
        pods::attach(&mut self.programs, &self.pins, netns)
    }

    /// Undoes [`Self::attach_pod`]; also for a namespace that is gone. Without effect where nothing is attached.
    ///
    /// # Errors
    /// When the pins cannot be removed.
    pub fn detach_pod(&mut self, cookie: NetnsCookie) -> Result<(), RedirectError> {
        pods::detach(&self.pins, cookie)
    }

    /// The namespaces with programs, those from before this agent's start included.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub fn attached_pods(&self) -> Result<Vec<NetnsCookie>, RedirectError> {
        self.pins.attached_pods()
    }

    /// From now on, captures the new connections of a pod; or changes its addresses.
    ///
    /// # Errors
    /// When the map is full, which is at 4,096 pods.
    pub fn enrol(&mut self, cookie: NetnsCookie, addresses: &PodAddresses) -> Result<(), RedirectError> {
        self.verdicts.enrolled(cookie, addresses)?;
        self.pods
            .insert(cookie.0, addresses, 0)
            .map_err(RedirectError::kernel(format!("enrol the network namespace {} in the map PODS", cookie.0)))
    }

    /// From now on, leaves the new connections of a pod alone. Those that were captured go on. Without effect for a pod
    /// that is not enrolled.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn leave(&mut self, cookie: NetnsCookie) -> Result<(), RedirectError> {
        self.verdicts.left(cookie)?;
        absent_is_fine(self.pods.remove(&cookie.0))
            .map_err(RedirectError::kernel(format!("take the network namespace {} out of the map PODS", cookie.0)))
    }

    /// The enrolled pods, those from before this agent's start included.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enrolled(&self) -> Result<Vec<NetnsCookie>, RedirectError> {
        self.pods
            .keys()
            .map(|key| key.map(NetnsCookie))
            .collect::<Result<_, _>>()
            .map_err(RedirectError::kernel("read the map PODS"))
    }

    /// The addresses that a namespace is enrolled with; none for one that is not.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn addresses(&self, cookie: NetnsCookie) -> Result<Vec<IpAddr>, RedirectError> {
        match self.pods.get(&cookie.0, 0) {
            Ok(pod) => Ok([pod.address_v4(), pod.address_v6()].into_iter().flatten().map(Address::to_ip).collect()),
            Err(MapError::KeyNotFound) => Ok(Vec::new()),
            Err(error) => Err(RedirectError::kernel("read the map PODS")(error)),
        }
    }

    /// Takes a namespace that no longer exists out of everything. Says whether it was so.
    ///
    /// # Errors
    /// When the kernel refuses, or the pins cannot be removed.
    pub fn forget_if_gone(&mut self, cookie: NetnsCookie) -> Result<bool, RedirectError> {
        if pods::adopt(&mut self.programs, &self.pins, cookie)? {
            return Ok(false);
        }
        self.leave(cookie)?;
        self.detach_pod(cookie)?;
        Ok(true)
    }

    /// Serves a pod's address in a role with a listening TCP socket, in place of an earlier one. One member of a
    /// `SO_REUSEPORT` group stands for the whole group.
    ///
    /// The socket may be bound anywhere in the pod's namespace; bound to a loopback address, nobody outside can reach it by
    /// its own port. The kernel forgets it when it is closed.
    ///
    /// # Errors
    /// When the socket does not listen, or the map is full.
    pub fn listen(&mut self, ip: IpAddr, role: Role, socket: &impl AsFd) -> Result<(), RedirectError> {
        self.listeners
            .insert(listener_key(ip, role), socket.as_fd().as_raw_fd(), 0)
            .map_err(RedirectError::kernel(format!("listen for {ip} ({role:?}) in the map LISTENERS")))
    }

    /// Serves a pod's address in a role no longer: its connections are held (outbound) or refused. Without effect where
    /// nothing listens.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unlisten(&mut self, ip: IpAddr, role: Role) -> Result<(), RedirectError> {
        self.verdicts.unserved(ip)?;
        absent_is_fine(self.listeners.remove(&listener_key(ip, role)))
            .map_err(RedirectError::kernel(format!("take {ip} ({role:?}) out of the map LISTENERS")))
    }

    /// The handle for the data path.
    #[must_use]
    pub fn sockets(&self) -> Sockets {
        self.sockets.clone()
    }

    /// Says whose connections are the kubelet's.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kubelets(&self) -> Result<Kubelets, RedirectError> {
        Kubelets::open(&self.pins)
    }

    /// The hand on direct connections, for the one who decides about them; none the second time.
    pub fn take_direct(&mut self) -> Option<Direct> {
        self.direct.take()
    }

    /// How full the maps are.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn maps(&self) -> Result<Maps, RedirectError> {
        Maps::open(&self.pins)
    }

    /// What the programs have counted.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn counters(&self) -> Result<Counters, RedirectError> {
        Counters::read(&self.counters)
    }

    /// Forgets captured connections that have waited this long to be accepted: what an agent that died left behind. Says
    /// how many. An application gives up a connect() after some two minutes, so five are enough.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget_stale(&mut self, age: Duration) -> Result<usize, RedirectError> {
        let before = bpf::boot_time().saturating_sub(age).as_nanos();
        let failed = || RedirectError::kernel("sweep the map ORIGINAL_DESTINATIONS");
        // Keys first: an entry that is removed under an iteration makes it start over.
        let keys: Vec<SourceKey> = self.original_destinations.keys().collect::<Result<_, _>>().map_err(failed())?;
        let mut forgotten = 0;
        for key in keys {
            match self.original_destinations.get(&key, 0) {
                Ok(entry) if u128::from(entry.written_ns) < before => {
                    absent_is_fine(self.original_destinations.remove(&key)).map_err(failed())?;
                    forgotten += 1;
                }
                Ok(_) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(failed()(error)),
            }
        }
        Ok(forgotten)
    }

    /// The pins of agents with another layout. Their programs are in force until [`Self::retire_predecessors`].
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub fn predecessors(&self) -> Result<Vec<PathBuf>, RedirectError> {
        self.pins.predecessors()
    }

    /// Ends what agents with another layout left in force. Call it when every pod is enrolled here: until then it is
    /// what keeps their connections from leaving in clear text.
    ///
    /// # Errors
    /// When the pins cannot be removed.
    pub fn retire_predecessors(&mut self) -> Result<(), RedirectError> {
        self.pins.predecessors()?.iter().try_for_each(|path| super::links::remove_tree(path))
    }

    /// Ends the redirection: detaches and unpins everything. For removing the mesh from a node; not for a restart.
    ///
    /// # Errors
    /// When something cannot be removed; the rest may still be in force.
    pub fn release(self) -> Result<(), RedirectError> {
        self.pins.remove_all()
    }

    /// Puts the new programs into the pods that an earlier agent attached to, and forgets those that are gone.
    fn adopt_pods(&mut self) -> Result<(), RedirectError> {
        for cookie in self.attached_pods()? {
            if self.forget_if_gone(cookie)? {
                tracing::debug!(netns = cookie.0, "a pod went away while no agent ran");
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redirect").field("pins", &self.pins).finish_non_exhaustive()
    }
}

/// The data path's handle has descriptors of its own.
fn sockets(pins: &Pins) -> Result<Sockets, RedirectError> {
    let open = |name| bpf::open_pin(&pins.map(name));
    open("SOCKETS")
        .and_then(|notes| Sockets::new(notes, open("ORIGINAL_DESTINATIONS")?))
        .map_err(RedirectError::kernel("use the maps SOCKETS and ORIGINAL_DESTINATIONS"))
}

/// A connection that is held while no agent is there tries more often than others.
fn hurry_first_packets(programs: &mut Programs) -> Result<(), RedirectError> {
    let mut retry: Array<MapData, u32> = programs.take_map("SYN_RETRY")?.try_into().map_err(unusable("SYN_RETRY"))?;
    // Without the clock it tries as often as others.
    let ticks = clock::tick().map_or(0, retry_ticks);
    retry.set(0, ticks, 0).map_err(RedirectError::kernel("change the map SYN_RETRY"))
}

/// The kernel's own wait is a second (RFC 6298, section 2).
fn retry_ticks(tick: Duration) -> u32 {
    let wait = Duration::from_secs(1) / SYN_RETRY_FRACTION;
    u32::try_from(wait.as_nanos() / tick.as_nanos().max(1)).unwrap_or(0)
}

/// The maps of direct connections. Nothing goes directly until somebody says so again.
fn direct(programs: &mut Programs, pins: &Pins) -> Result<Direct, RedirectError> {
    let mut lease: Array<MapData, u64> = programs.take_map("LEASE")?.try_into().map_err(unusable("LEASE"))?;
    lease.set(0, 0, 0).map_err(RedirectError::kernel("change the map LEASE"))?;
    let verdicts = programs.take_map("VERDICTS")?.try_into().map_err(unusable("VERDICTS"))?;
    let services = programs.take_map("SERVICES")?.try_into().map_err(unusable("SERVICES"))?;
    let endpoints = programs.take_map("ENDPOINTS")?.try_into().map_err(unusable("ENDPOINTS"))?;
    let flows = bpf::open_pin(&pins.map("DIRECT_FLOWS"))
        .and_then(|fd| bpf::Map::new(fd, size_of::<Flow>(), size_of::<DirectFlow>()))
        .map_err(RedirectError::kernel("use the map DIRECT_FLOWS"))?;
    Ok(Direct {
        verdicts: Verdicts::new(verdicts)?,
        services: Services::new(services, endpoints)?,
        lease,
        flows,
        events: programs.take_map("FLOW_EVENTS")?.try_into().map_err(unusable("FLOW_EVENTS"))?,
    })
}

fn listener_key(ip: IpAddr, role: Role) -> ListenerKey {
    ListenerKey { ip: Address::from_ip(ip), role: role as u32 }
}

fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

fn unusable(name: &str) -> impl FnOnce(MapError) -> RedirectError {
    RedirectError::kernel(format!("use the map {name}"))
}
