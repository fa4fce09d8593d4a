//! cargo-deny: licences, banned and duplicate crates, sources; advisories where their database can be had.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::cache::Cache;
use crate::process::Task;
use crate::workspace::{Workspace, cargo, on_path};

/// The release that we build when none is on `PATH`.
const VERSION: &str = "0.20.2";
/// How long the advisory database may take: a network that is shut often just says nothing.
const FETCH_LIMIT: Duration = Duration::from_secs(60);

/// Checks the dependencies. Returns a note when part of it could not be checked here.
pub(crate) fn check(workspace: &Workspace) -> Result<Option<String>> {
    let program = program()?;
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(&workspace.root);
        command
    };
    Task::new(
        "check the dependencies",
        deny(&["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]),
    )
    .remedy("the finding above names crate and rule; deny.toml holds the rules, each with its reason")
    .stream()?;
    let fetch = Task::new("fetch the advisory database", deny(&["fetch", "db"])).limit(FETCH_LIMIT);
    if fetch.progress().is_err() {
        return Ok(Some("advisories not checked: their database cannot be fetched from here".into()));
    }
    Task::new("check for advisories", deny(&["--locked", "check", "--disable-fetch", "advisories"]))
        .remedy("raise the crate that the advisory names, or record in deny.toml why it does not concern us")
        .stream()?;
    Ok(None)
}

/// cargo-deny on `PATH`, or our own.
fn program() -> Result<PathBuf> {
    if let Some(program) = on_path("cargo-deny") {
        return Ok(program);
    }
    let name = format!("cargo-deny-{VERSION}-{}", std::env::consts::ARCH);
    Ok(Cache::open()?.entry(&name, runs, build)?.join("bin/cargo-deny"))
}

fn build(place: &Path) -> Result<()> {
    let work = place.join("build");
    let mut install = cargo();
    install.current_dir(place).env_remove("RUSTFLAGS");
    // It runs for seconds: time spent on optimising it is lost.
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_LTO", "false");
    install.env("CARGO_PROFILE_RELEASE_DEBUG", "0").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    install.args(["install", "cargo-deny", "--locked", "--no-default-features", "--version", VERSION]);
    install.arg("--root").arg(place).arg("--target-dir").arg(&work);
    Task::new(format!("build cargo-deny {VERSION} (some minutes, once)"), install)
        .remedy("it comes from crates.io: is there a network? A cargo-deny on PATH is used instead")
        .progress()?;
    Ok(std::fs::remove_dir_all(work)?)
}

fn runs(place: &Path) -> bool {
    Command::new(place.join("bin/cargo-deny")).arg("--version").output().is_ok_and(|output| output.status.success())
}
