//! What the programs have counted.

use aya::maps::{MapData, PerCpuArray};
use sotto_ebpf::abi::Counter;

use crate::drivers::redirect::error::RedirectError;

/// Numbers since the maps were made; they survive a restart of the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections of enrolled pods that were handed to the agent.
    pub captured: u64,
    /// connect() refused: the pod has no address of the destination's family.
    pub refused_no_address: u64,
    /// connect() refused: the socket has no room for the note (`net.core.optmem_max`).
    pub refused_no_note: u64,
    /// SYNs dropped because the agent had no outbound listener; a waiting connection counts once per retransmission.
    pub held_syns: u64,
    /// Inbound connections refused because the agent had no listener for them.
    pub refused_no_listener: u64,
    /// Inbound connections refused because nobody may use the port: 15001 from outside, 15006.
    pub refused_reserved_port: u64,
    /// Captured connections that were lost because too many were waiting to be accepted.
    pub original_destinations_full: u64,
    /// Connections of the agent and the kubelet to applications that could not be told apart from outside ones.
    pub admitted_flows_full: u64,
    /// Connections of the kubelet that went straight to the application: probes and lifecycle hooks.
    pub probes: u64,
    /// Connections that went straight to a pod of this node.
    pub direct: u64,
    /// Direct connections refused on arrival, since their verdict had been withdrawn meanwhile.
    pub direct_withdrawn: u64,
    /// Direct connections cut off because it was no pod of this node that answered.
    pub direct_strayed: u64,
    /// Direct connections cut off because too many are open.
    pub direct_flows_full: u64,
    /// Direct connections that ended without a line in the access log: the agent did not read fast enough.
    pub flow_events_full: u64,
}

impl Counters {
    /// Each number with its name, for metrics.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 14] {
        [
            ("captured", self.captured),
            ("refused_no_address", self.refused_no_address),
            ("refused_no_note", self.refused_no_note),
            ("held_syns", self.held_syns),
            ("refused_no_listener", self.refused_no_listener),
            ("refused_reserved_port", self.refused_reserved_port),
            ("original_destinations_full", self.original_destinations_full),
            ("admitted_flows_full", self.admitted_flows_full),
            ("probes", self.probes),
            ("direct", self.direct),
            ("direct_withdrawn", self.direct_withdrawn),
            ("direct_strayed", self.direct_strayed),
            ("direct_flows_full", self.direct_flows_full),
            ("flow_events_full", self.flow_events_full),
        ]
    }

    pub(in crate::drivers::redirect) fn read(map: &PerCpuArray<MapData, u64>) -> Result<Self, RedirectError> {
        let sum = |counter: Counter| {
            map.get(&(counter as u32), 0)
                .map(|values| values.iter().sum())
                .map_err(RedirectError::kernel("read the map COUNTERS"))
        };
        Ok(Self {
            captured: sum(Counter::Captured)?,
            refused_no_address: sum(Counter::RefusedNoAddress)?,
            refused_no_note: sum(Counter::RefusedNoNote)?,
            held_syns: sum(Counter::HeldSyns)?,
            refused_no_listener: sum(Counter::RefusedNoListener)?,
            refused_reserved_port: sum(Counter::RefusedReservedPort)?,
            original_destinations_full: sum(Counter::OriginalDestinationsFull)?,
            admitted_flows_full: sum(Counter::AdmittedFlowsFull)?,
            probes: sum(Counter::Probes)?,
            direct: sum(Counter::Direct)?,
            direct_withdrawn: sum(Counter::DirectWithdrawn)?,
            direct_strayed: sum(Counter::DirectStrayed)?,
            direct_flows_full: sum(Counter::DirectFlowsFull)?,
            flow_events_full: sum(Counter::FlowEventsFull)?,
        })
    }
}
