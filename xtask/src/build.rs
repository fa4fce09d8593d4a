//! `cargo xtask build`: the `sotto` binary with its eBPF programs inside.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::ebpf;
use crate::process::shown;
use crate::workspace::Workspace;

/// The arguments of the command.
#[derive(Args)]
pub(crate) struct Options {
    /// Build with the release profile (the default).
    #[arg(long, conflicts_with = "dev")]
    release: bool,
    /// Build with the dev profile, as the tests do.
    #[arg(long)]
    dev: bool,
}

/// The two ways to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build: what tests run.
    Dev,
    /// What is shipped and measured.
    Release,
}

/// The command.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    ebpf::build(workspace)?;
    let profile = if options.dev { Profile::Dev } else { Profile::Release };
    println!("{}", binary(workspace, "sotto", "sotto", profile)?.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the binaries of a package, each of which may start the others, and returns the path of one.
pub(crate) fn binary(workspace: &Workspace, package: &str, name: &str, profile: Profile) -> Result<PathBuf> {
    let mut build = workspace.cargo(&["build", "--locked", "-p", package, "--bins"]);
    // The messages name the file: a target triple in somebody's Cargo settings moves it.
    build.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped()).stderr(Stdio::inherit());
    if profile == Profile::Release {
        build.arg("--release");
    }
    let output = build.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("could not build {name}: the compiler's message is above\n  ran: {}", shown(&build));
    }
    executable(&String::from_utf8_lossy(&output.stdout), name).with_context(|| format!("cargo built no binary {name}"))
}

/// The path that Cargo's messages give for the binary `name`.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name && message["target"]["kind"][0] == "bin")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_found_among_the_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"sotto","kind":["lib"]},"executable":null}"#,
            "\nnot a message\n",
            r#"{"reason":"compiler-artifact","target":{"name":"sotto","kind":["bin"]},"executable":"/t/debug/sotto"}"#,
            "\n"
        );
        assert_eq!(executable(messages, "sotto"), Some("/t/debug/sotto".into()));
        assert_eq!(executable(messages, "demo"), None);
    }
}
