//! How full the maps are.

use std::io;

use sotto_ebpf::abi::{Flow, ListenerKey, OriginalDestination, PodAddresses, SourceKey};
use sotto_ebpf::abi_direct::{DirectFlow, EndpointKey, EndpointSet, Target, VerdictKey};

use super::error::RedirectError;
use super::pins::Pins;
use crate::sys::bpf::{Map, open_pin};
use crate::telemetry::metrics::MapFill;

/// The maps that can be full, with descriptors of their own: counting is not in the way of anybody.
#[derive(Debug)]
pub struct Maps(Vec<(&'static str, Map)>);

/// Name, and the sizes of keys and values.
const MAPS: [(&str, usize, usize); 9] = [
    ("PODS", size_of::<u64>(), size_of::<PodAddresses>()),
    ("ORIGINAL_DESTINATIONS", size_of::<SourceKey>(), size_of::<OriginalDestination>()),
    ("ADMITTED_FLOWS", size_of::<Flow>(), size_of::<u32>()),
    ("KUBELETS", size_of::<u64>(), size_of::<u64>()),
    ("LISTENERS", size_of::<ListenerKey>(), size_of::<u32>()),
    ("VERDICTS", size_of::<VerdictKey>(), size_of::<u64>()),
    ("DIRECT_FLOWS", size_of::<Flow>(), size_of::<DirectFlow>()),
    ("SERVICES", size_of::<Target>(), size_of::<EndpointSet>()),
    ("ENDPOINTS", size_of::<EndpointKey>(), size_of::<Target>()),
];

impl Maps {
    pub(super) fn open(pins: &Pins) -> Result<Self, RedirectError> {
        let open = |(name, key, value)| Ok((name, Map::new(open_pin(&pins.map(name))?, key, value)?));
        let maps = MAPS.into_iter().map(open).collect::<io::Result<_>>();
        Ok(Self(maps.map_err(RedirectError::kernel("use the maps to count their entries"))?))
    }

    /// Counts.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn fill(&self) -> Result<Vec<MapFill>, RedirectError> {
        let fill = |&(name, ref map): &(&'static str, Map)| {
            let entries = map.count().map_err(RedirectError::kernel(format!("count the entries of the map {name}")))?;
            Ok(MapFill { map: name, entries: entries as u64, capacity: map.capacity() as u64 })
        };
        self.0.iter().map(fill).collect()
    }
}
