//! Whose connections are the kubelet's.

use aya::maps::{HashMap, Map, MapData};

use crate::drivers::redirect::error::RedirectError;
use crate::drivers::redirect::pins::Pins;
use crate::sys::netns::NetnsCookie;

/// Says which cgroup the kubelet runs in. The connections that its processes make in the node's network namespace reach the
/// applications of enrolled pods as without the mesh, whatever policy says and whether or not an agent runs.
#[derive(Debug)]
pub struct Kubelets(HashMap<MapData, u64, u64>);

impl Kubelets {
    pub(in crate::drivers::redirect) fn open(pins: &Pins) -> Result<Self, RedirectError> {
        let unusable = || RedirectError::kernel("use the map KUBELETS");
        let data = MapData::from_pin(pins.map("KUBELETS")).map_err(unusable())?;
        Ok(Self(HashMap::try_from(Map::HashMap(data)).map_err(unusable())?))
    }

    /// From now on, the kubelet is what runs in the cgroup of this id (in it, not below it) and in this network namespace. With
    /// none, nobody is. What was said before, by this agent or an earlier one, is void.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(&mut self, cgroup: Option<u64>, node: NetnsCookie) -> Result<(), RedirectError> {
        let failed = || RedirectError::kernel("change the map KUBELETS");
        let earlier: Vec<u64> = self.0.keys().collect::<Result<_, _>>().map_err(failed())?;
        for cgroup in earlier.into_iter().filter(|earlier| Some(*earlier) != cgroup) {
            self.0.remove(&cgroup).map_err(failed())?;
        }
        cgroup.map_or(Ok(()), |cgroup| self.0.insert(cgroup, node.0, 0)).map_err(failed())
    }
}
