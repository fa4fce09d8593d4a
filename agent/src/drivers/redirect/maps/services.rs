//! Which endpoints are behind services' ports, for the programs to pick one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use aya::maps::{HashMap, MapData};
use sotto_ebpf::abi::Address;
use sotto_ebpf::abi_direct::{EndpointKey, EndpointSet, Target};

use crate::drivers::redirect::error::RedirectError;

/// A service's addresses, each with the endpoints behind it.
pub type Endpoints = BTreeMap<SocketAddr, Vec<SocketAddr>>;

/// The one writer of the programs' services.
#[derive(Debug)]
pub(in crate::drivers::redirect) struct Services {
    services: HashMap<MapData, Target, EndpointSet>,
    endpoints: HashMap<MapData, EndpointKey, Target>,
    told: BTreeMap<SocketAddr, (u32, Vec<SocketAddr>)>,
    next_set: u32,
}

impl Services {
    /// Takes the maps over; what an earlier agent told is void.
    pub(in crate::drivers::redirect) fn new(
        mut services: HashMap<MapData, Target, EndpointSet>,
        mut endpoints: HashMap<MapData, EndpointKey, Target>,
    ) -> Result<Self, RedirectError> {
        let earlier: Vec<_> = services.keys().collect::<Result<_, _>>().map_err(changed("SERVICES"))?;
        earlier.iter().try_for_each(|key| services.remove(key)).map_err(changed("SERVICES"))?;
        let earlier: Vec<_> = endpoints.keys().collect::<Result<_, _>>().map_err(changed("ENDPOINTS"))?;
        earlier.iter().try_for_each(|key| endpoints.remove(key)).map_err(changed("ENDPOINTS"))?;
        Ok(Self { services, endpoints, told: BTreeMap::new(), next_set: 0 })
    }

    /// From now on, these are the services. One that finds no room is left out: the agent picks for it.
    pub(in crate::drivers::redirect) fn set(&mut self, wanted: &Endpoints) -> Result<(), RedirectError> {
        let gone: Vec<_> = self.told.keys().filter(|service| !wanted.contains_key(service)).copied().collect();
        for service in gone {
            self.services.remove(&target(service)).map_err(changed("SERVICES"))?;
            self.forget_set(service)?;
        }
        for (service, endpoints) in wanted {
            if self.told.get(service).is_none_or(|(_, told)| told != endpoints) {
                self.put(*service, endpoints)?;
            }
        }
        Ok(())
    }

    /// The new set is whole before anything leads to it; who still reads of the old one finds nothing there, and asks the agent.
    fn put(&mut self, service: SocketAddr, endpoints: &[SocketAddr]) -> Result<(), RedirectError> {
        self.next_set = self.next_set.wrapping_add(1);
        let number = self.next_set;
        for (index, endpoint) in (0..).zip(endpoints) {
            let key = EndpointKey { set: number, index };
            self.endpoints.insert(key, target(*endpoint), 0).map_err(changed("ENDPOINTS"))?;
        }
        let set = EndpointSet { number, count: u32::try_from(endpoints.len()).unwrap_or(u32::MAX) };
        self.services.insert(target(service), set, 0).map_err(changed("SERVICES"))?;
        self.forget_set(service)?;
        self.told.insert(service, (number, endpoints.to_vec()));
        Ok(())
    }

    fn forget_set(&mut self, service: SocketAddr) -> Result<(), RedirectError> {
        let Some((set, endpoints)) = self.told.remove(&service) else { return Ok(()) };
        for (index, _) in (0..).zip(endpoints) {
            self.endpoints.remove(&EndpointKey { set, index }).map_err(changed("ENDPOINTS"))?;
        }
        Ok(())
    }
}

fn target(address: SocketAddr) -> Target {
    Target::new(Address::from_ip(address.ip()), address.port())
}

fn changed<E: std::error::Error + Send + Sync + 'static>(map: &str) -> impl FnOnce(E) -> RedirectError {
    RedirectError::kernel(format!("change the map {map}"))
}
