//! What a tier finds when its tests start: a program that renders the chart, or a part of Kubernetes, which goes when
//! they have ended.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};

use super::tier::Tier;
use crate::cache::Cache;
use crate::cluster::command::{NODES, default_state};
use crate::cluster::lifecycle;
use crate::cluster::programs::{
    Extent, PROMETHEUS, Programs, is_unreachable, prometheus, prometheus_obstacle, renderer,
};
use crate::cluster::state::State;
use crate::image::sotto::{TAG, archive, write};
use crate::workspace::Workspace;

/// What is there for the time of one tier.
#[derive(Default)]
pub(super) struct Stage {
    environment: Vec<(&'static str, OsString)>,
    cluster: Option<OwnCluster>,
    /// What the tests will lack.
    pub(super) note: Option<String>,
}

/// Goes down with the value, also when something fails on the way.
struct OwnCluster {
    state: Option<State>,
    /// One run at a time: another would take our bridge for its own leftovers.
    _turn: File,
}

impl Stage {
    /// Prepares what the tests of `tier` need.
    pub(super) fn prepare(tier: Tier, workspace: &Workspace, sotto: Option<&Path>) -> Result<Self> {
        match tier {
            Tier::Unit | Tier::Golden | Tier::Loopback => Ok(Self::default()),
            Tier::Netns => Self::with_prometheus(),
            Tier::Deploy => {
                let program = renderer(&workspace.root.join("tests/deploy/render.go"))?;
                Ok(Self { environment: vec![("SOTTO_CHART_RENDERER", program.into())], ..Self::default() })
            }
            Tier::Api => {
                let programs = Programs::ensure(Extent::Api)?;
                Ok(Self { environment: vec![("SOTTO_KUBE_BIN", programs.bin().into())], ..Self::default() })
            }
            Tier::Cluster => Self::cluster(workspace, sotto.context("the cluster tier was given no agent")?),
        }
    }

    /// The tier runs without it, too; what it then lacks is told.
    fn with_prometheus() -> Result<Self> {
        let without = |why| Ok(Self { note: Some(format!("netns: tests with Prometheus: {why}")), ..Self::default() });
        if let Some(why) = prometheus_obstacle() {
            return without(why);
        }
        match prometheus() {
            Ok(place) => Ok(Self { environment: vec![(PROMETHEUS, place.into())], ..Self::default() }),
            Err(error) if is_unreachable(&error) => without(format!("{error:#}")),
            Err(error) => Err(error),
        }
    }

    /// A contributor's own cluster if it is up, and else one for this run. The image of the agent is loaded.
    fn cluster(workspace: &Workspace, sotto: &Path) -> Result<Self> {
        let programs = Programs::ensure(Extent::Nodes)?;
        let image = archive(workspace);
        write(sotto, TAG, &image)?;
        let standing = default_state(Extent::Nodes)?;
        let kubectl = programs.bin().join("kubectl");
        let (state, cluster) = if lifecycle::status(&standing, Some(&kubectl)).whole {
            println!("the cluster in {} is up: it is used, and left up", standing.dir().display());
            (standing, None)
        } else {
            let cache = Cache::open()?;
            let turn = cache.lock("cluster-tests")?;
            let state = State::at(&cache.place("cluster-tests"))?;
            lifecycle::down(&state)?;
            let own = OwnCluster { state: Some(State::open(state.dir())?), _turn: turn };
            lifecycle::up(&state, &programs, NODES)?;
            (state, Some(own))
        };
        lifecycle::load_image(&state, &programs, &image)?;
        let environment = vec![
            ("KUBECONFIG", state.kubeconfig().into()),
            ("SOTTO_CLUSTER_STATE", state.dir().into()),
            ("SOTTO_KUBE_BIN", programs.bin().into()),
        ];
        Ok(Self { environment, cluster, note: None })
    }

    /// For the test programs.
    pub(super) fn environment(&self) -> impl Iterator<Item = (&'static str, &OsString)> {
        self.environment.iter().map(|(name, value)| (*name, value))
    }

    /// Removes what was made for this run, and says so when that fails.
    pub(super) fn clear(mut self) -> Result<()> {
        let state = self.cluster.as_mut().and_then(|cluster| cluster.state.take());
        state.map_or(Ok(()), |state| lifecycle::down(&state))
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        if let Some(state) = &self.state
            && let Err(error) = lifecycle::down(state)
        {
            println!("warning: something is left of the cluster in {}: {error:#}", state.dir().display());
        }
    }
}
