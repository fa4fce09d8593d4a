//! The arguments of `cargo xtask cluster`, and what each does.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use super::kubectl::Kubectl;
use super::lifecycle;
use super::node::inside;
use super::programs::{Extent, Programs};
use super::state::State;
use crate::cache::Cache;
use crate::process::seconds;
use crate::setup::is_root;
use crate::workspace::{on_path, setting};

/// The arguments of the command.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Bring a cluster up and wait until its nodes are Ready; the first time, its programs are built
    Up(Up),
    /// End everything and remove every trace
    Down(Where),
    /// Say what runs
    Status(Where),
    /// Load an image (an OCI or Docker archive) into every node
    LoadImage(LoadImage),
    /// pid 1 of a node
    #[command(hide = true)]
    InsideNode { folder: PathBuf },
}

#[derive(Args)]
struct Where {
    /// The cluster's folder: everything it writes lies there [default: `cluster` or `api` in the cache]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

#[derive(Args)]
struct Up {
    #[command(flatten)]
    place: Where,
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = NODES, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// etcd, API server and controller manager on loopback only: needs no root, several can run at once
    #[arg(long, conflicts_with = "nodes")]
    api_only: bool,
    /// Use the cluster behind this file: it is looked at and left as it is [default: $KUBECONFIG, unless --state or
    /// --api-only asks for one of our own]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["state", "api_only"])]
    kubeconfig: Option<PathBuf>,
}

#[derive(Args)]
struct LoadImage {
    #[command(flatten)]
    place: Where,
    /// The archive
    archive: PathBuf,
}

/// How many nodes a cluster has when nobody says.
pub(crate) const NODES: u8 = 2;

/// The command.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    match &options.action {
        Action::Up(up) => bring_up(up)?,
        Action::Down(place) => {
            let state = place.state(Extent::Nodes)?;
            lifecycle::down(&state)?;
            println!("nothing is left of the cluster in {}", state.dir().display());
        }
        Action::Status(place) => {
            let report = lifecycle::status(&place.state(Extent::Nodes)?, on_path("kubectl").as_deref());
            report.lines.iter().for_each(|line| println!("{line}"));
            return Ok(if report.whole { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Action::LoadImage(load) => {
            let state = load.place.state(Extent::Nodes)?;
            lifecycle::load_image(&state, &Programs::ensure(Extent::Nodes)?, &load.archive)?
                .iter()
                .for_each(|line| println!("{line}"));
        }
        Action::InsideNode { folder } => return inside::run(folder),
    }
    Ok(ExitCode::SUCCESS)
}

fn bring_up(up: &Up) -> Result<()> {
    if let Some(kubeconfig) = up.existing() {
        return look_at(&kubeconfig);
    }
    let extent = if up.api_only { Extent::Api } else { Extent::Nodes };
    ensure!(up.api_only || is_root(), "nodes need root; `--api-only` does not");
    let programs = Programs::ensure(extent)?;
    let state = State::open(up.place.state(extent)?.dir())?;
    let started = Instant::now();
    lifecycle::up(&state, &programs, if up.api_only { 0 } else { up.nodes })?;
    println!("up after {}", seconds(started.elapsed()));
    println!("KUBECONFIG={}", state.kubeconfig().display());
    Ok(())
}

/// Somebody else's cluster.
fn look_at(kubeconfig: &Path) -> Result<()> {
    let program = on_path("kubectl").context("kubectl is not on PATH: it is needed to ask an existing cluster")?;
    println!("cluster of {}: nothing is started, and `down` will leave it alone", kubeconfig.display());
    let (lines, ready) = lifecycle::answers(&Kubectl::new(&program, kubeconfig))?;
    lines.iter().for_each(|line| println!("{line}"));
    ensure!(ready, "not all of its nodes are Ready");
    Ok(())
}

impl Up {
    /// The kubeconfig of a cluster that is there already, if one is meant. That of our own does not count.
    fn existing(&self) -> Option<PathBuf> {
        if self.kubeconfig.is_some() || self.api_only || self.place.state.is_some() {
            return self.kubeconfig.clone();
        }
        let own = default_state(Extent::Nodes).ok().map(|state| state.kubeconfig());
        setting("KUBECONFIG").map(PathBuf::from).filter(|file| Some(file) != own.as_ref())
    }
}

impl Where {
    fn state(&self, extent: Extent) -> Result<State> {
        self.state.as_ref().map_or_else(|| default_state(extent), |dir| State::at(dir))
    }
}

/// Where a cluster lies when nobody says.
pub(crate) fn default_state(extent: Extent) -> Result<State> {
    let name = if extent == Extent::Api { "api" } else { "cluster" };
    State::at(&Cache::open()?.place(name))
}
