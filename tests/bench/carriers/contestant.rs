//! What may carry the traffic between two pods, and what each of them has to be able to do.

use anyhow::{Result, bail, ensure};

use super::{envoy, envoy_config, plain, sotto, ztunnel};
use crate::command::Options;
use crate::output::Record;
use crate::pair::Pair;
use crate::usage::Processes;

/// Something that may carry traffic. It has its pods all the time, and its proxies during its turns.
pub(crate) trait Contestant {
    /// Its name in all output.
    fn name(&self) -> &'static str;

    /// The pods that its traffic flows between.
    fn pair(&self) -> &Pair;

    /// Starts the proxies; returns when they say that they are ready.
    fn start(&mut self) -> Result<()>;

    /// What carries the traffic now; nothing where the kernel alone does.
    fn processes(&self) -> Processes;

    /// Ends the proxies, so that another's turn has the cores for itself.
    fn stop(&mut self);

    /// Whether it carries any protocol (`true`) or HTTP alone.
    fn carries_tcp(&self) -> bool {
        true
    }

    /// An error unless the traffic of this turn went the way that the name says: a benchmark of what bypassed the proxy is none.
    fn prove(&self) -> Result<()> {
        Ok(())
    }

    /// Makes the pods run without a mesh, and what joining needs ready. Whether they can join at all.
    fn before_joining(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Changes something while the pods run, the proxies being where the change before has left them. Returns how many pods it had
    /// to restart.
    fn change(&mut self, change: Change) -> Result<u32> {
        bail!("{} cannot {change:?}", self.name())
    }

    /// What memory the proxies of one node take with `pods` pods there, one after the other with more of them. `None` where a
    /// number cannot be had.
    fn memory_with(&mut self, _pods: usize) -> Result<Option<u64>> {
        Ok(None)
    }
}

/// What can happen to pods while they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// They join the mesh.
    Join,
    /// The proxies are replaced by newer ones.
    Upgrade,
    /// They leave the mesh.
    Leave,
}

/// All names, in the order of the tables.
const NAMES: [&str; 9] =
    ["plain", "plain-local", "envoy-tcp", "envoy-http", "ztunnel", SOTTO, "sotto-h2", "sotto-local", QUIET];

/// The one that the others are there for.
pub(crate) const SOTTO: &str = "sotto";

/// Answers a question of its own, what the access log costs, and has a turn only where it is named.
const QUIET: &str = "sotto-quiet";

/// Sets up those that are wanted and can be had; notes say what could not.
pub(crate) fn set_up(options: &Options, record: &mut Record) -> Result<Vec<Box<dyn Contestant>>> {
    for name in &options.only {
        ensure!(NAMES.contains(&name.as_str()), "there is no contestant `{name}`; there are: {}", NAMES.join(", "));
    }
    let named = |name: &str| options.only.iter().any(|only| only == name);
    let wanted = |name: &str| named(name) || (options.only.is_empty() && name != QUIET);
    let mut contestants: Vec<Box<dyn Contestant>> = Vec::new();
    for name in NAMES.into_iter().filter(|name| wanted(name)) {
        let made: Result<Option<Box<dyn Contestant>>> = match name {
            "plain" => plain::Plain::set_up(false).map(boxed),
            "plain-local" => plain::Plain::set_up(true).map(boxed),
            "envoy-tcp" => envoy::Envoy::set_up(envoy_config::Mode::Tcp, record).map(optional),
            "envoy-http" => envoy::Envoy::set_up(envoy_config::Mode::Http, record).map(optional),
            "ztunnel" => ztunnel::Ztunnels::set_up(record).map(optional),
            SOTTO => sotto::Sotto::set_up(sotto::Way::Default, record).map(optional),
            "sotto-h2" => sotto::Sotto::set_up(sotto::Way::H2, record).map(optional),
            QUIET => sotto::Sotto::set_up(sotto::Way::Quiet, record).map(optional),
            _ => sotto::Sotto::set_up(sotto::Way::SameNode, record).map(optional),
        };
        contestants.extend(made?);
    }
    if contestants.is_empty() {
        bail!("none of the contestants that are wanted can run here");
    }
    Ok(contestants)
}

fn boxed(contestant: impl Contestant + 'static) -> Option<Box<dyn Contestant>> {
    Some(Box::new(contestant))
}

fn optional(contestant: Option<impl Contestant + 'static>) -> Option<Box<dyn Contestant>> {
    contestant.map(|contestant| -> Box<dyn Contestant> { Box::new(contestant) })
}

/// Nodes and pods of one contestant.
pub(super) fn mesh() -> Result<harness::Mesh> {
    harness::Mesh::new("bench").ok_or_else(|| anyhow::anyhow!("this machine does not allow it, as said above"))
}
