//! `cargo xtask setup`: compiler and linker for eBPF, tools for the tests.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use super::compiler::{self, Compiler};
use super::{linker, packages};
use crate::cache::Cache;
use crate::process::seconds;
use crate::workspace::{Workspace, on_path};

/// What the netns tier and the demo call, and the package of each.
const TEST_TOOLS: [(&str, &str); 4] =
    [("ip", "iproute2"), ("tcpdump", "tcpdump"), ("ps", "procps"), ("bpftool", "bpftool")];

/// What builds the eBPF programs.
#[derive(Debug, Clone)]
pub(crate) struct Toolchain {
    /// Emits them.
    pub(crate) compiler: Compiler,
    /// Links them: a bpf-linker with the compiler's LLVM.
    pub(crate) linker: PathBuf,
}

/// The command.
pub(crate) fn run(_workspace: &Workspace) -> Result<ExitCode> {
    let started = Instant::now();
    toolchain()?;
    test_tools()?;
    println!("set-up: ready after {}", seconds(started.elapsed()));
    Ok(ExitCode::SUCCESS)
}

/// Compiler and linker for eBPF, installed and built as far as they are missing.
pub(crate) fn toolchain() -> Result<Toolchain> {
    let cache = Cache::open()?;
    let compiler = compiler::ensure(&cache)?;
    let linker = linker::ensure(&cache, &compiler)?;
    Ok(Toolchain { compiler, linker })
}

/// The programs that tests and the demo call. Where we cannot install them the tiers that need them say so.
pub(crate) fn test_tools() -> Result<()> {
    let missing: Vec<_> = TEST_TOOLS.iter().filter(|(program, _)| on_path(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    if packages::debian() && packages::root() {
        return packages::ensure(&Cache::open()?, &names, "run the network tests");
    }
    println!("warning: the network tests need {}: have root install them", names.join(", "));
    Ok(())
}
