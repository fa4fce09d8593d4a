//! The programs that make load. `cargo xtask bench` names the folders where they are.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

/// Folders of programs and, after a `|`, of their libraries: what `cargo xtask bench` has unpacked.
const TOOLS: &str = "SOTTO_BENCH_TOOLS";

/// A command of one of the tools.
pub(crate) fn tool(program: &str) -> Result<Command> {
    let path = find(program).with_context(|| {
        format!("there is no {program} on PATH nor in {TOOLS}: start the benchmark with `cargo xtask bench`")
    })?;
    let mut command = Command::new(path);
    if let Some((_, libraries)) = setting().as_deref().and_then(|text| text.split_once('|')) {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    Ok(command)
}

fn setting() -> Option<String> {
    std::env::var_os(TOOLS)?.into_string().ok()
}

/// The program's file: of the unpacked tools first, so that all machines measure with the same.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let unpacked = setting().unwrap_or_default();
    let unpacked = unpacked.split('|').next().unwrap_or_default().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders =
        std::env::split_paths(&unpacked).chain(std::env::split_paths(&path)).collect::<Vec<_>>().into_iter();
    folders.find_map(|folder| Some(folder.join(program)).filter(|file| file.is_file()))
}
