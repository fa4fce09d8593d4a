//! A cluster comes up, is looked at and goes down. Each can be repeated, and follows a crash of any other.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::control_plane::{ControlPlane, PARTS, PORTS};
use super::daemon::{Daemon, await_condition};
use super::images;
use super::kubectl::Kubectl;
use super::network::{self, MOST_NODES, Place};
use super::node::outside;
use super::pki::Pki;
use super::programs::Programs;
use super::state::{Settings, State};
use crate::process::seconds;

/// How long nodes have to get Ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// Brings a cluster of that many nodes up, none for an API server alone. What runs already stays as it is.
pub(crate) fn up(state: &State, programs: &Programs, nodes: u8) -> Result<()> {
    ensure!(nodes <= MOST_NODES, "{nodes} nodes: at most {MOST_NODES} fit on the bridge");
    let laps = Laps(Instant::now());
    let _lock = state.lock()?;
    let settings = settle(state, nodes)?;
    let pki = Pki::prepare(state, ControlPlane::server(&settings))?;
    if nodes > 0 {
        network::make_bridge(state.dir())?;
    }
    let kubectl = Kubectl::new(&programs.path("kubectl"), &state.kubeconfig());
    let plane = ControlPlane::new(state, programs, &settings);
    plane.start_api(&kubectl)?;
    laps.lap("API server ready");
    if programs.path("kube-controller-manager").exists() {
        plane.start_controllers()?;
    }
    if nodes > 0 {
        let archives = images::archives(state, programs)?;
        for place in Place::all(nodes).filter(|place| !outside::runs(state, *place)) {
            // What is written about an earlier run of the node says Ready for another 20 seconds.
            kubectl.run(&["delete", "node", &place.name(), "--ignore-not-found", "--wait=false"])?;
            outside::start(state, programs, &pki, place, &archives)?;
        }
        outside::connect(nodes)?;
        laps.lap("nodes started");
        Place::all(nodes).try_for_each(|place| await_node(state, &kubectl, place))?;
        laps.lap(&format!("{nodes} nodes Ready"));
    }
    // Without it no pod can be made in the namespace.
    if programs.path("kube-controller-manager").exists() {
        await_condition(PATIENCE, || kubectl.run(&["-n", "default", "get", "serviceaccount", "default"]).map(|_| ()))?;
        laps.lap("default service account there");
    }
    Ok(())
}

/// Ends and removes everything, whatever of it is there.
pub(crate) fn down(state: &State) -> Result<()> {
    if !state.dir().exists() {
        return Ok(());
    }
    let lock = state.lock()?;
    // All that fit, however many were asked for: the command that made them may have ended half-way.
    if network::is_ours(network::bridge_owner().as_deref(), state.dir()) {
        for place in Place::all(MOST_NODES) {
            outside::stop(state, place)?;
        }
    }
    for name in PARTS {
        if let Some(daemon) = Daemon::recorded(state, name) {
            daemon.end(state)?;
        }
    }
    Daemon::all(state).iter().try_for_each(|daemon| daemon.end(state))?;
    network::remove_bridge(state.dir())?;
    drop(lock);
    state.remove()
}

/// What there is of a cluster, for people.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// One line for each fact.
    pub(crate) lines: Vec<String>,
    /// Whether everything that should run does.
    pub(crate) whole: bool,
}

/// Looks at a cluster.
pub(crate) fn status(state: &State, kubectl: Option<&Path>) -> Report {
    let Some(settings) = state.settings() else {
        let mut lines = vec![format!("no cluster in {}", state.dir().display())];
        lines.extend(network::bridge_owner().map(|owner| format!("the bridge {} is {owner:?}'s", network::BRIDGE)));
        lines.extend(Place::all(MOST_NODES).flat_map(outside::leftovers).map(|what| format!("there is a {what}")));
        return Report { lines, whole: false };
    };
    let mut report = Report { lines: vec![format!("cluster in {}", state.dir().display())], whole: true };
    let controllers = if settings.nodes > 0 { &PARTS[..] } else { &PARTS[2..] };
    let parts = controllers.iter().rev().map(|name| (*name).to_owned());
    for name in parts.chain(Place::all(settings.nodes).map(outside::process)) {
        let runs = Daemon::recorded(state, &name).filter(Daemon::runs);
        report.whole &= runs.is_some();
        let what = runs.map_or("does not run".to_owned(), |daemon| format!("pid {}", daemon.pid));
        report.lines.push(format!("  {name:26}{what}"));
    }
    if let Some(program) = kubectl {
        let kubectl = Kubectl::new(program, &state.kubeconfig());
        match answers(&kubectl) {
            Ok((lines, ready)) => {
                report.whole &= ready;
                report.lines.extend(lines);
            }
            Err(error) => {
                report.whole = false;
                report.lines.push(format!("  the API server does not answer: {}", error.root_cause()));
            }
        }
    }
    report.lines.push(format!("  KUBECONFIG={}", state.kubeconfig().display()));
    report
}

/// What the API server of any cluster says about itself and its nodes, and whether all of these are Ready.
pub(super) fn answers(kubectl: &Kubectl) -> Result<(Vec<String>, bool)> {
    kubectl.ready()?;
    let mut lines = vec![format!("  API server {} is ready", kubectl.version()?)];
    let nodes = kubectl.nodes()?;
    for (name, ready) in &nodes {
        lines.push(format!("  {name:26}{}", if *ready { "Ready" } else { "not Ready" }));
    }
    Ok((lines, nodes.iter().all(|(_, ready)| *ready)))
}

/// Loads an image into every node and says what each calls it.
pub(crate) fn load_image(state: &State, programs: &Programs, archive: &Path) -> Result<Vec<String>> {
    let settings = state.settings().filter(|settings| settings.nodes > 0);
    let count = settings.with_context(|| format!("no cluster with nodes in {}", state.dir().display()))?.nodes;
    let load =
        |place: Place| Ok(format!("{}: {}", place.name(), outside::load_image(state, programs, place, archive)?));
    Place::all(count).map(load).collect()
}

/// What the cluster is, now or since it was made.
fn settle(state: &State, nodes: u8) -> Result<Settings> {
    if let Some(settings) = state.settings() {
        ensure!(
            settings.nodes == nodes && settings.ports.len() == PORTS,
            "the cluster in {} has {} nodes, not {nodes}: take it down first",
            state.dir().display(),
            settings.nodes
        );
        return Ok(settings);
    }
    let settings = Settings { nodes, ports: network::free_ports(PORTS)? };
    state.keep(&settings)?;
    Ok(settings)
}

fn await_node(state: &State, kubectl: &Kubectl, place: Place) -> Result<()> {
    let (name, process) = (place.name(), outside::process(place));
    let mut ranged = false;
    let waited = await_condition(PATIENCE, || {
        if !outside::runs(state, place) {
            return Ok(());
        }
        let nodes = kubectl.nodes()?;
        let (_, ready) = nodes.iter().find(|(node, _)| *node == name).with_context(|| format!("no Node {name}"))?;
        if !ranged {
            // For those who look there; the network plugin has its own configuration.
            let range = json!({"spec": {"podCIDR": place.pods(), "podCIDRs": [place.pods()]}}).to_string();
            kubectl.run(&["patch", "node", &name, "-p", &range])?;
            ranged = true;
        }
        if *ready { Ok(()) } else { bail!("the Node {name} is not Ready") }
    });
    let logs = state.node(&name).join("log");
    waited.with_context(|| format!("{name} does not come up: see the logs in {}", logs.display()))?;
    Daemon::recorded(state, &process).context("a started node is recorded")?.check(state)
}

/// Says how long it took until now.
struct Laps(Instant);

impl Laps {
    fn lap(&self, what: &str) {
        println!("{:>10}  {what}", seconds(self.0.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_stays_what_it_was_made_as() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let first = settle(&state, 0).unwrap();
        assert_eq!(settle(&state, 0).unwrap(), first);
        assert!(settle(&state, 2).unwrap_err().to_string().contains("take it down"));
    }

    #[test]
    fn no_cluster_is_a_status_too() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(&dir.path().join("none")).unwrap();
        assert!(!status(&state, None).whole);
        down(&state).unwrap();
    }
}
