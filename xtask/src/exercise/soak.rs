//! `cargo xtask soak`: builds what the soak needs and runs it.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::build::{Profile, binary};
use crate::ebpf;
use crate::setup::prepare;
use crate::tiers::machine;
use crate::workspace::Workspace;

/// The arguments of the command.
#[derive(Args)]
pub(crate) struct Options {
    /// How long traffic flows
    #[arg(long, value_name = "N", default_value = "20")]
    minutes: String,

    /// Repeats the choices of an earlier run, which printed this number
    #[arg(long, value_name = "SEED")]
    seed: Option<String>,

    /// An unoptimized agent instead of a release one
    #[arg(long)]
    dev: bool,
}

/// The command: its exit code is the soak's.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    prepare::test_tools()?;
    machine::require_netns("the soak")?;
    ebpf::build(workspace)?;
    let profile = if options.dev { Profile::Dev } else { Profile::Release };
    let sotto = binary(workspace, "sotto", "sotto", profile)?;
    let soak = binary(workspace, "sotto-tests", "soak", profile)?;
    let mut command = Command::new(&soak);
    command.args(["--minutes", &options.minutes]).env("SOTTO_BIN", &sotto).current_dir(&workspace.root);
    if let Some(seed) = &options.seed {
        command.args(["--seed", seed]);
    }
    let status = command.status().with_context(|| format!("cannot start {}", soak.display()))?;
    // A run that a signal ended has no code of its own.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
