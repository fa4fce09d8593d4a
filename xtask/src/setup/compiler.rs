//! Which Rust compiler builds the eBPF programs: Debian's `rustc-web`, which ships `core` for them, or rustup's nightly,
//! which builds `core` from `rust-src`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use super::packages;
use crate::cache::Cache;
use crate::process::Task;
use crate::workspace::{on_path, setting};

/// Debian's compiler, and `core` for `bpfel-unknown-none`.
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];
/// Where Debian's compiler lies; rustup's stands before it on `PATH`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Overrides the choice: `debian` or `nightly`.
const CHOICE: &str = "SOTTO_BPF_TOOLCHAIN";
/// Overrides where LLVM's development files are.
const LLVM_PREFIX: &str = "LLVM_PREFIX";

/// The two ways to a compiler for eBPF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Debian's `rustc-web` at `/usr/bin/rustc`, driven by the Cargo that runs us.
    Debian,
    /// `rustup run nightly`, with `-Z build-std=core`.
    Nightly,
}

impl FromStr for Route {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "debian" => Ok(Self::Debian),
            "nightly" => Ok(Self::Nightly),
            other => bail!("{CHOICE} is {other:?}: it may be `debian` or `nightly`"),
        }
    }
}

/// What the choice depends on.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    wanted: Option<Route>,
    debian_installed: bool,
    /// apt offers the packages and we are root.
    debian_installable: bool,
    nightly_installed: bool,
    /// rustup is there and was not told to leave downloads alone.
    nightly_installable: bool,
}

/// A compiler for eBPF that is installed.
#[derive(Debug, Clone)]
pub(crate) struct Compiler {
    /// How it came here.
    pub(crate) route: Route,
    /// Its release, as it says itself.
    pub(crate) release: String,
    /// The major version of the LLVM inside: the linker must have the same.
    pub(crate) llvm_major: u32,
}

/// Chooses a compiler by what is there, and installs it if it is missing.
pub(crate) fn ensure(cache: &Cache) -> Result<Compiler> {
    let (route, why) = choose(look_around(cache)?)?;
    match route {
        Route::Debian => packages::ensure(cache, &DEBIAN_PACKAGES, "compile the eBPF programs")?,
        Route::Nightly if nightly_installed() => {}
        Route::Nightly => fetch_nightly()?,
    }
    let compiler = ask(route)?;
    println!("eBPF compiler: {} {} (LLVM {}), {why}", route.name(), compiler.release, compiler.llvm_major);
    Ok(compiler)
}

impl Route {
    fn name(self) -> &'static str {
        match self {
            Self::Debian => "Debian's rustc",
            Self::Nightly => "rustup's nightly",
        }
    }
}

fn look_around(cache: &Cache) -> Result<Facts> {
    let wanted = setting(CHOICE).map(|text| text.to_string_lossy().parse()).transpose()?;
    if wanted.is_some() {
        return Ok(Facts { wanted, ..Facts::default() });
    }
    let debian = packages::debian();
    let debian_installed = debian && packages::missing(&DEBIAN_PACKAGES)?.is_empty();
    if debian_installed {
        return Ok(Facts { debian_installed, ..Facts::default() });
    }
    let nightly_installed = nightly_installed();
    let downloads = setting("RUSTUP_AUTO_INSTALL").is_none_or(|value| value != "0");
    Ok(Facts {
        nightly_installed,
        debian_installable: !nightly_installed
            && debian
            && packages::root()
            && packages::offered(cache, &DEBIAN_PACKAGES)?,
        nightly_installable: downloads && on_path("rustup").is_some(),
        ..Facts::default()
    })
}

/// What is installed wins over what would have to be fetched, and Debian's fixed release over a nightly.
fn choose(facts: Facts) -> Result<(Route, &'static str)> {
    if let Some(route) = facts.wanted {
        return Ok((route, "as SOTTO_BPF_TOOLCHAIN says"));
    }
    if facts.debian_installed {
        return Ok((Route::Debian, "because it is installed"));
    }
    if facts.nightly_installed {
        return Ok((Route::Nightly, "because it is installed with rust-src"));
    }
    if facts.debian_installable {
        return Ok((Route::Debian, "because apt offers it"));
    }
    if facts.nightly_installable {
        return Ok((Route::Nightly, "because rustup may fetch it"));
    }
    bail!(
        "no compiler for eBPF is here, and none can be installed from here. Either, on Debian 12 or newer, as root:\n  \
         apt-get install --no-install-recommends {}\nor where rustup has a network:\n  \
         rustup toolchain install nightly --profile minimal --component rust-src",
        DEBIAN_PACKAGES.join(" ")
    )
}

fn nightly_installed() -> bool {
    let mut query = Command::new("rustup");
    query.args(["run", "nightly", "rustc", "--print", "sysroot"]);
    let Ok(sysroot) = Task::new("ask for the nightly compiler", query).output() else { return false };
    Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir()
}

fn fetch_nightly() -> Result<()> {
    let mut fetch = Command::new("rustup");
    fetch.args([
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "rust-src",
        "--no-self-update",
    ]);
    Task::new("fetch the nightly compiler with rust-src", fetch)
        .remedy("where rustup has no network, Debian's compiler does as well: SOTTO_BPF_TOOLCHAIN=debian")
        .progress()
}

fn ask(route: Route) -> Result<Compiler> {
    let mut query = match route {
        Route::Debian => Command::new(DEBIAN_RUSTC),
        Route::Nightly => {
            let mut rustup = Command::new("rustup");
            rustup.args(["run", "nightly", "rustc"]);
            rustup
        }
    };
    query.arg("-vV");
    let answer = Task::new("ask the eBPF compiler for its version", query).output()?;
    let (release, llvm_major) = parse_version(&answer)?;
    Ok(Compiler { route, release, llvm_major })
}

/// The release and the LLVM major of `rustc -vV`.
fn parse_version(answer: &str) -> Result<(String, u32)> {
    let field = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let release = field("release:").context("`rustc -vV` names no release")?;
    let llvm = field("LLVM version:").context("`rustc -vV` names no LLVM version")?;
    let major = llvm.split('.').next().and_then(|major| major.parse().ok());
    Ok((release.to_owned(), major.with_context(|| format!("`rustc -vV` has the odd LLVM version {llvm:?}"))?))
}

impl Compiler {
    /// The folder of LLVM's development files, installed if it is missing and we may.
    pub(crate) fn llvm_prefix(&self, cache: &Cache) -> Result<PathBuf> {
        if let Some(prefix) = setting(LLVM_PREFIX) {
            return Ok(prefix.into());
        }
        let major = self.llvm_major;
        if !packages::debian() {
            bail!(
                "the eBPF compiler has LLVM {major}, so its linker needs LLVM {major}'s development files: install them and set \
                 {LLVM_PREFIX} to their folder (the one with bin/llvm-config), or put a bpf-linker with its own LLVM on PATH"
            );
        }
        let (llvm, polly) = (format!("llvm-{major}-dev"), format!("libpolly-{major}-dev"));
        // g++ brings the libstdc++ to link with; the others are what LLVM itself was linked with.
        packages::ensure(cache, &[&llvm, &polly, "zlib1g-dev", "libzstd-dev", "g++"], "build the eBPF linker")?;
        Ok(PathBuf::from(format!("/usr/lib/llvm-{major}")))
    }

    /// Cargo with this compiler behind it; `linker` links the programs, with BTF.
    pub(crate) fn cargo(&self, stable: Command, linker: &Path) -> Command {
        let mut command = match self.route {
            Route::Debian => {
                let mut command = stable;
                // aya-ebpf uses `asm_experimental_arch`, which a stable compiler gives only when asked like this.
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1").arg("build");
                command
            }
            Route::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo", "build", "-Z", "build-std=core"]);
                command
            }
        };
        let flags = format!("-C linker={} -C debuginfo=2 -C link-arg=--btf", linker.display());
        command.env("RUSTFLAGS", flags).env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("RUSTC_WRAPPER");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(facts: Facts) -> Route {
        choose(facts).unwrap().0
    }

    #[test]
    fn what_is_installed_wins_over_what_would_be_fetched() {
        let nightly = Facts { nightly_installed: true, debian_installable: true, ..Facts::default() };
        assert_eq!(chosen(nightly), Route::Nightly);
        let both = Facts { debian_installed: true, nightly_installed: true, ..Facts::default() };
        assert_eq!(chosen(both), Route::Debian);
    }

    #[test]
    fn debian_is_installed_before_a_nightly_is_fetched() {
        let both = Facts { debian_installable: true, nightly_installable: true, ..Facts::default() };
        assert_eq!(chosen(both), Route::Debian);
        assert_eq!(chosen(Facts { nightly_installable: true, ..Facts::default() }), Route::Nightly);
    }

    #[test]
    fn a_wish_wins() {
        let facts = Facts { wanted: Some(Route::Nightly), debian_installed: true, ..Facts::default() };
        assert_eq!(chosen(facts), Route::Nightly);
        assert!("gentoo".parse::<Route>().is_err());
    }

    #[test]
    fn without_any_way_both_are_explained() {
        let text = choose(Facts::default()).unwrap_err().to_string();
        assert!(text.contains("rustc-web") && text.contains("rust-src"), "{text}");
    }

    #[test]
    fn a_version_names_release_and_llvm() {
        let answer = "rustc 1.96.0 (ac68faa20)\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_version(answer).unwrap(), ("1.96.0".to_owned(), 22));
        assert!(parse_version("release: 1.96.0\n").is_err());
        assert!(parse_version("release: 1.96.0\nLLVM version: new\n").is_err());
    }

    #[test]
    fn debian_builds_with_cores_at_hand_and_nightly_builds_its_own() {
        let compiler = |route| Compiler { route, release: "1".into(), llvm_major: 22 };
        let debian = compiler(Route::Debian).cargo(Command::new("cargo"), Path::new("/c/bpf-linker"));
        let text = crate::process::shown(&debian);
        assert!(text.contains("RUSTC=/usr/bin/rustc") && text.contains("linker=/c/bpf-linker"), "{text}");
        let nightly = compiler(Route::Nightly).cargo(Command::new("cargo"), Path::new("/c/bpf-linker"));
        let text = crate::process::shown(&nightly);
        assert!(
            text.contains("rustup run nightly cargo build -Z build-std=core") && !text.contains("RUSTC="),
            "{text}"
        );
    }
}
