//! `cargo xtask image`: the agent, the libraries that it is linked with, and nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::archive::{Image, Layer, Start};
use crate::build::{Profile, binary};
use crate::ebpf;
use crate::process::Task;
use crate::workspace::Workspace;

/// What the image is called, on this machine only.
pub(crate) const TAG: &str = "localhost/sotto:dev";
/// Where `deploy/` expects the program.
const PROGRAM: &str = "usr/local/bin/sotto";

/// The arguments of the command.
#[derive(Args)]
pub(crate) struct Options {
    /// An unoptimized agent instead of a release one
    #[arg(long)]
    dev: bool,
    /// Where the archive goes [default: sotto-image.tar in the target folder]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What the image is called
    #[arg(long, value_name = "NAME:TAG", default_value = TAG)]
    tag: String,
}

/// The command.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    ebpf::build(workspace)?;
    let profile = if options.dev { Profile::Dev } else { Profile::Release };
    let sotto = binary(workspace, "sotto", "sotto", profile)?;
    let place = options.output.clone().unwrap_or_else(|| archive(workspace));
    write(&sotto, &options.tag, &place)?;
    println!("{}: {}", options.tag, place.display());
    Ok(ExitCode::SUCCESS)
}

/// Where the archive lies when nobody says.
pub(crate) fn archive(workspace: &Workspace) -> PathBuf {
    workspace.target_dir.join("sotto-image.tar")
}

/// Writes the image of a built binary.
pub(crate) fn write(sotto: &Path, tag: &str, place: &Path) -> Result<()> {
    let mut layer = Layer::new();
    for library in libraries(sotto)? {
        // At the place where the binary and its loader look: that of the machine that linked it.
        let path = library.to_str().context("a library's path is text")?.trim_start_matches('/');
        layer.file(path, &library)?;
    }
    layer.text("etc/passwd", "root:x:0:0:root:/:/\n")?;
    layer.text("etc/group", "root:x:0:\n")?;
    layer.text("etc/nsswitch.conf", "hosts: files dns\n")?;
    layer.folder("tmp", 0o1777)?;
    let mut program = Layer::new();
    program.file(PROGRAM, sotto)?;
    let start = Start { command: vec![format!("/{PROGRAM}")], arguments: Vec::new() };
    Image { tag: tag.into(), start, layers: vec![layer.finish()?, program.finish()?] }.write(place)
}

/// What the binary is linked with, its loader included; nothing for a static one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program).env("LC_ALL", "C");
    match Task::new("ask for the binary's libraries", ldd).output() {
        Ok(answer) => parse(&answer),
        Err(error) if format!("{error:#}").contains("not a dynamic executable") => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Reads lines like `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x7f…)` and `/lib64/ld-linux-x86-64.so.2 (0x7f…)`.
fn parse(answer: &str) -> Result<Vec<PathBuf>> {
    ensure!(!answer.contains("not found"), "the binary needs a library that is not on this machine:\n{answer}");
    let path = |line: &str| {
        let place = line.split_once("=>").map_or(line, |(_, place)| place).trim();
        let path = place.split(" (").next().unwrap_or_default();
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    Ok(answer.lines().filter_map(path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found() {
        let answer =
            "\tlinux-vdso.so.1 (0x00007f)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x00007f)\n\t/lib64/ld.so.2 (0x00007f)\n";
        assert_eq!(parse(answer).unwrap(), [PathBuf::from("/lib/x/libm.so.6"), "/lib64/ld.so.2".into()]);
        assert_eq!(parse("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_missing_library_is_an_error() {
        assert!(parse("\tlibx.so.1 => not found\n").is_err());
    }
}
