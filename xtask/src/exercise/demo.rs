//! `cargo xtask demo`: builds what the demonstration needs and runs it.

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
    /// Handed to the demonstration.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The command: its exit code is the demonstration's.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    prepare::test_tools()?;
    machine::require_netns("the demonstration")?;
    ebpf::build(workspace)?;
    let sotto = binary(workspace, "sotto", "sotto", Profile::Release)?;
    let demo = binary(workspace, "sotto-tests", "demo", Profile::Release)?;
    let mut command = Command::new(&demo);
    command.args(&options.arguments).env("SOTTO_BIN", &sotto).current_dir(&workspace.root);
    let status = command.status().with_context(|| format!("cannot start {}", demo.display()))?;
    // A demonstration that a signal ended has no code of its own.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
