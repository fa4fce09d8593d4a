//! Compiles the eBPF programs and puts the object where the agent's build script embeds it from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use super::inspect;
use crate::process::Task;
use crate::setup::Toolchain;
use crate::setup::prepare;
use crate::workspace::{Workspace, cargo, shown};

/// The member that holds the programs, and their binary.
const PACKAGE: &str = "sotto-ebpf";
/// Little-endian eBPF: every machine that we support.
const TARGET: &str = "bpfel-unknown-none";
/// The Cargo profile of the programs.
const PROFILE: &str = "bpf";

/// The command: builds, and lists what was built.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let object = build(workspace)?;
    let image = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    print!("{}", inspect::table(&inspect::programs(&image)?));
    Ok(ExitCode::SUCCESS)
}

/// Sets up, builds and returns the object file. Nothing is touched when nothing changed.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    ensure!(
        workspace.find("bin", PACKAGE).is_some(),
        "the member {PACKAGE} has no binary of that name: the programs belong in ebpf/src/main.rs"
    );
    let built = compile(workspace, &prepare::toolchain()?)?;
    let object = workspace.ebpf_object();
    let image = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let programs = inspect::programs(&image)?;
    ensure!(!programs.is_empty(), "{} holds no program: was it linked with bpf-linker?", built.display());
    place(&image, &object)?;
    let total: u64 = programs.iter().map(|program| program.instructions).sum();
    println!(
        "eBPF object: {}, {} KiB, {} programs, {total} instructions",
        shown(&object, &workspace.root),
        image.len().div_ceil(1024),
        programs.len()
    );
    Ok(object)
}

fn compile(workspace: &Workspace, toolchain: &Toolchain) -> Result<PathBuf> {
    let target_dir = workspace.target_dir.join("bpf");
    let mut build = toolchain.compiler.cargo(cargo(), &toolchain.linker);
    build.current_dir(&workspace.root).env("CARGO_TARGET_DIR", &target_dir);
    build.args(["--profile", PROFILE, "--target", TARGET, "-p", PACKAGE, "--bin", PACKAGE, "--locked", "--quiet"]);
    Task::new("build the eBPF programs", build)
        .remedy(
            "the compiler's message above names the line; if it is about the toolchain itself, `cargo xtask setup` says which one \
             was chosen and SOTTO_BPF_TOOLCHAIN chooses another",
        )
        .stream()?;
    Ok(target_dir.join(TARGET).join(PROFILE).join(PACKAGE))
}

/// Writes `image` to `object` at once, and not at all when it is there already: the agent is rebuilt on a new time stamp.
fn place(image: &[u8], object: &Path) -> Result<()> {
    if fs::read(object).is_ok_and(|there| there == image) {
        return Ok(());
    }
    let unfinished = object.with_extension(format!("o.{}", std::process::id()));
    fs::write(&unfinished, image).with_context(|| format!("cannot write {}", unfinished.display()))?;
    fs::rename(&unfinished, object).with_context(|| format!("cannot move {} into place", object.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_object_keeps_its_time_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let object = dir.path().join("sotto-ebpf.o");
        place(b"one", &object).unwrap();
        let first = fs::metadata(&object).unwrap().modified().unwrap();
        let earlier = first - std::time::Duration::from_secs(60);
        fs::File::options().write(true).open(&object).unwrap().set_modified(earlier).unwrap();

        place(b"one", &object).unwrap();
        assert_eq!(fs::metadata(&object).unwrap().modified().unwrap(), earlier);
        place(b"two", &object).unwrap();
        assert_ne!(fs::metadata(&object).unwrap().modified().unwrap(), earlier);
        assert_eq!(fs::read(&object).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
