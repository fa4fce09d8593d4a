//! bpf-linker, built once for the compiler's LLVM and kept in the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::compiler::Compiler;
use super::packages;
use crate::cache::Cache;
use crate::process::Task;
use crate::workspace::{cargo, on_path};

/// The release of bpf-linker that we build.
const VERSION: &str = "0.13.0";
/// The LLVM majors that this release can be built for.
const LLVM_MAJORS: [u32; 3] = [21, 22, 23];

/// The linker for what `compiler` emits; builds it the first time.
pub(crate) fn ensure(cache: &Cache, compiler: &Compiler) -> Result<PathBuf> {
    // LLVM's development files cannot be installed from here; a linker that brings its own LLVM needs none.
    if let (false, Some(program)) = (packages::debian(), on_path("bpf-linker")) {
        println!("eBPF linker: {}, because it is on PATH", program.display());
        return Ok(program);
    }
    let major = supported(compiler)?;
    let name = format!("bpf-linker-{VERSION}-llvm-{major}-{}", std::env::consts::ARCH);
    let place = cache.entry(&name, runs, |place| build(place, major, &compiler.llvm_prefix(cache)?))?;
    Ok(program(&place))
}

/// The compiler's LLVM major: the linker reads what LLVM wrote, so both must have the same.
fn supported(compiler: &Compiler) -> Result<u32> {
    let major = compiler.llvm_major;
    ensure!(
        LLVM_MAJORS.contains(&major),
        "the eBPF compiler {} has LLVM {major}, and bpf-linker {VERSION} can be built for {LLVM_MAJORS:?} only: choose the other \
         compiler with SOTTO_BPF_TOOLCHAIN, or raise VERSION and LLVM_MAJORS in xtask/src/setup/linker.rs",
        compiler.release
    );
    Ok(major)
}

fn build(place: &Path, llvm_major: u32, llvm_prefix: &Path) -> Result<()> {
    let work = place.join("build");
    let mut install = cargo();
    // Away from the workspace, so that neither its settings nor a target folder of the caller have a say.
    install.current_dir(place).env("LLVM_PREFIX", llvm_prefix).env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    install.env_remove("RUSTFLAGS").args([
        "install",
        "bpf-linker",
        "--locked",
        "--no-default-features",
        "--version",
        VERSION,
    ]);
    install.args(["--features", &format!("llvm-{llvm_major}")]).arg("--root").arg(place).arg("--target-dir").arg(&work);
    Task::new(format!("build bpf-linker {VERSION} for LLVM {llvm_major} (about a minute, once)"), install)
        .remedy("the last lines name what is missing: a library (install its -dev package) or the network (crates.io)")
        .progress()?;
    Ok(std::fs::remove_dir_all(work)?)
}

/// The libraries that it was linked with may have gone: only a linker that starts is one.
fn runs(place: &Path) -> bool {
    Command::new(program(place)).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn program(place: &Path) -> PathBuf {
    place.join("bin/bpf-linker")
}

#[cfg(test)]
mod tests {
    use super::super::compiler::Route;
    use super::*;

    #[test]
    fn an_llvm_that_the_linker_does_not_know_is_explained() {
        let compiler = |llvm_major| Compiler { route: Route::Nightly, release: "1.120.0-nightly".into(), llvm_major };
        assert_eq!(supported(&compiler(22)).unwrap(), 22);
        let text = supported(&compiler(30)).unwrap_err().to_string();
        assert!(text.contains("LLVM 30") && text.contains("SOTTO_BPF_TOOLCHAIN"), "{text}");
    }
}
