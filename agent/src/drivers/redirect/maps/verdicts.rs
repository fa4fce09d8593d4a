//! Who may connect directly to what on this node. A verdict is there only while both pods are enrolled as they were when it was
//! given: whoever changes a pod's enrolment takes them out in the same step.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{HashMap as KernelMap, MapData, MapError};
use sotto_ebpf::abi::{Address, PodAddresses};
use sotto_ebpf::abi_direct::VerdictKey;

use crate::drivers::redirect::error::RedirectError;
use crate::sys::netns::NetnsCookie;

/// The verdicts, shared by who enrols pods and who decides about their connections.
#[derive(Clone, Debug)]
pub(in crate::drivers::redirect) struct Verdicts(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    map: KernelMap<MapData, VerdictKey, u64>,
    present: HashMap<VerdictKey, u64>,
    enrolled: HashMap<u64, PodAddresses>,
}

impl Verdicts {
    /// Takes the map over; what an earlier agent decided is void.
    pub(in crate::drivers::redirect) fn new(
        mut map: KernelMap<MapData, VerdictKey, u64>,
    ) -> Result<Self, RedirectError> {
        let earlier: Vec<_> = map.keys().collect::<Result<_, _>>().map_err(changed())?;
        for key in earlier {
            absent_is_fine(map.remove(&key)).map_err(changed())?;
        }
        let table = Table { map, present: HashMap::new(), enrolled: HashMap::new() };
        Ok(Self(Arc::new(Mutex::new(table))))
    }

    /// Puts a verdict in force. `false`: one of the pods is not enrolled (any more), or has not this address.
    pub(in crate::drivers::redirect) fn grant(
        &self,
        (client, server): (NetnsCookie, NetnsCookie),
        address: SocketAddr,
        number: u64,
    ) -> Result<bool, RedirectError> {
        let mut table = self.lock();
        let key = key(client, address);
        let has_address = table.enrolled.get(&server.0).is_some_and(|pod| has(pod, key.ip));
        if !has_address || !table.enrolled.contains_key(&client.0) {
            return Ok(false);
        }
        table.map.insert(key, number, 0).map_err(changed())?;
        table.present.insert(key, number);
        Ok(true)
    }

    /// Takes one out, if it has this number.
    pub(in crate::drivers::redirect) fn withdraw(
        &self,
        client: NetnsCookie,
        address: SocketAddr,
        number: u64,
    ) -> Result<(), RedirectError> {
        let key = key(client, address);
        self.lock().remove(|candidate, present| *candidate == key && present == number)
    }

    /// From now on, a namespace may have verdicts as the pod with these addresses; those of others with them are void.
    pub(in crate::drivers::redirect) fn enrolled(
        &self,
        netns: NetnsCookie,
        addresses: &PodAddresses,
    ) -> Result<(), RedirectError> {
        let mut table = self.lock();
        table.remove(|key, _| key.netns == netns.0 || has(addresses, key.ip))?;
        table.enrolled.retain(|_, other| {
            let shares = |own: Option<Address>| own.is_some_and(|own| has(other, own));
            !shares(addresses.address_v4()) && !shares(addresses.address_v6())
        });
        table.enrolled.insert(netns.0, *addresses);
        Ok(())
    }

    /// Takes out all from and to a namespace.
    pub(in crate::drivers::redirect) fn left(&self, netns: NetnsCookie) -> Result<(), RedirectError> {
        let mut table = self.lock();
        let addresses = table.enrolled.remove(&netns.0);
        table.remove(|key, _| key.netns == netns.0 || addresses.is_some_and(|addresses| has(&addresses, key.ip)))
    }

    /// Takes out all from and to the pod with this address, which the agent serves no longer.
    pub(in crate::drivers::redirect) fn unserved(&self, ip: IpAddr) -> Result<(), RedirectError> {
        let ip = Address::from_ip(ip);
        let owner = self.lock().enrolled.iter().find(|(_, pod)| has(pod, ip)).map(|(netns, _)| NetnsCookie(*netns));
        owner.map_or(Ok(()), |owner| self.left(owner))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn remove(&mut self, is_void: impl Fn(&VerdictKey, u64) -> bool) -> Result<(), RedirectError> {
        let void: Vec<_> =
            self.present.iter().filter(|(key, number)| is_void(key, **number)).map(|(key, _)| *key).collect();
        for key in void {
            absent_is_fine(self.map.remove(&key)).map_err(changed())?;
            self.present.remove(&key);
        }
        Ok(())
    }
}

fn key(client: NetnsCookie, address: SocketAddr) -> VerdictKey {
    VerdictKey::new(client.0, Address::from_ip(address.ip()), address.port())
}

fn has(pod: &PodAddresses, ip: Address) -> bool {
    pod.address_v4() == Some(ip) || pod.address_v6() == Some(ip)
}

/// The programs take out verdicts, too.
fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

fn changed<E: std::error::Error + Send + Sync + 'static>() -> impl FnOnce(E) -> RedirectError {
    RedirectError::kernel("change the map VERDICTS")
}
