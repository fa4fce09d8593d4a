//! Prometheus and promtool, which tests of the metrics ask.

use std::path::PathBuf;

use anyhow::Result;

use super::debian;
use crate::cache::Cache;
use crate::workspace::setting;

/// Names a folder with both programs that somebody else prepared; set for the tests.
pub(crate) const PROMETHEUS: &str = "SOTTO_PROMETHEUS_BIN";

/// The folder of the programs, from Debian's package: unpacked into the cache, so that no service is started.
pub(crate) fn prometheus() -> Result<PathBuf> {
    if let Some(place) = setting(PROMETHEUS) {
        return Ok(place.into());
    }
    let cache = Cache::open()?;
    let name = format!("prometheus-2-{}", std::env::consts::ARCH);
    let programs = ["usr/bin/prometheus", "usr/bin/promtool"];
    Ok(debian::unpacked(&cache, &name, &["prometheus"], &programs)?.join("usr/bin"))
}

/// Why this machine cannot have them; none when it can, as far as one can tell without asking the network.
pub(crate) fn prometheus_obstacle() -> Option<String> {
    if setting(PROMETHEUS).is_some() { None } else { debian::obstacle() }
}
