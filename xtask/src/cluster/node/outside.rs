//! A node as the machine sees it: a network namespace with routes, groups, and one process that holds the rest.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{cgroups, config};
use crate::cluster::daemon::Daemon;
use crate::cluster::network::{BRIDGE, HOST, Place, ip};
use crate::cluster::pki::Pki;
use crate::cluster::programs::Programs;
use crate::cluster::state::State;
use crate::process::Task;

/// The subcommand that pid 1 of a node is.
pub(crate) const INSIDE: &str = "inside-node";
/// Addresses that clouds serve their metadata at: nobody answers there, and none shall be asked on the machine's behalf.
const METADATA: &str = "169.254.0.0/16";

/// Whether a node's processes are there.
pub(crate) fn runs(state: &State, place: Place) -> bool {
    Daemon::recorded(state, &process(place)).is_some_and(|daemon| daemon.runs())
}

/// Starts a node that does not run.
pub(crate) fn start(state: &State, programs: &Programs, pki: &Pki<'_>, place: Place, images: &[PathBuf]) -> Result<()> {
    // What a node that has crashed left is in the way of the next.
    stop(state, place)?;
    pki.node(place)?;
    let folder = config::write(state, programs, place, images.to_vec())?;
    cgroups::create(&place.label())?;
    plug_in(place)?;
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", place.label()));
    command.args([
        "unshare",
        "--mount",
        "--uts",
        "--ipc",
        "--pid",
        "--fork",
        "--kill-child",
        "--propagation",
        "private",
    ]);
    command.arg(own_program(&folder)?).args(["cluster", INSIDE]).arg(folder);
    Daemon::start(state, &process(place), command)?.check(state)
}

/// Routes between every pair of nodes, and from the machine to the pods, as a network plugin's daemon would keep them.
pub(crate) fn connect(count: u8) -> Result<()> {
    for place in Place::all(count) {
        ip(&format!("route replace {} via {} dev {BRIDGE}", place.pods(), place.address()))?;
        for other in Place::all(count).filter(|other| *other != place) {
            ip(&format!("-n {} route replace {} via {}", place.label(), other.pods(), other.address()))?;
        }
    }
    Ok(())
}

/// Ends a node and removes what it had outside of its folder. No error when there is none.
pub(crate) fn stop(state: &State, place: Place) -> Result<()> {
    if let Some(daemon) = Daemon::recorded(state, &process(place)) {
        // The end of its pid 1 ends everything in the namespaces, and their mounts go with them.
        daemon.end(state)?;
    }
    let label = place.label();
    if link_exists(&label) {
        // At once: a namespace that is ending may hold it for a while.
        ip(&format!("link del {label}"))?;
    }
    if Path::new("/run/netns").join(&label).exists() {
        ip(&format!("netns del {label}"))?;
    }
    if cgroups::exist(&label) {
        cgroups::remove(&label)?;
    }
    Ok(())
}

/// What of a node is still on the machine.
pub(crate) fn leftovers(place: Place) -> Vec<String> {
    let label = place.label();
    let mut found = Vec::new();
    if link_exists(&label) {
        found.push(format!("link {label}"));
    }
    if Path::new("/run/netns").join(&label).exists() {
        found.push(format!("network namespace {label}"));
    }
    if cgroups::exist(&label) {
        found.push(format!("cgroup {label}"));
    }
    found
}

/// The name of a node's process in the state folder.
pub(crate) fn process(place: Place) -> String {
    format!("node-{}", place.name())
}

/// Runs a program of the node's in all of its namespaces.
pub(crate) fn enter(state: &State, place: Place, program: &str, arguments: &[&str]) -> Result<Command> {
    let daemon = Daemon::recorded(state, &process(place)).filter(Daemon::runs);
    let pid = daemon.and_then(|daemon| daemon.child()).with_context(|| format!("{} does not run", place.name()))?;
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid.to_string(), "--all", "--", program]).args(arguments);
    Ok(command)
}

/// Loads an image into the node's containerd.
pub(crate) fn load_image(state: &State, programs: &Programs, place: Place, archive: &Path) -> Result<String> {
    let ctr = programs.tool("usr/bin/ctr").display().to_string();
    let words = ["--address", super::inside::SOCKET, "--namespace", "k8s.io", "images", "import", "-"];
    let mut command = enter(state, place, &ctr, &words)?;
    let file = File::open(archive).with_context(|| format!("cannot open {}", archive.display()))?;
    let output = command.stdin(Stdio::from(file)).output().context("cannot start nsenter")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} refuses the image {}: {}", place.name(), archive.display(), errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn plug_in(place: Place) -> Result<()> {
    let label = place.label();
    ip(&format!("netns add {label}"))?;
    ip(&format!("link add {label} type veth peer name eth0 netns {label}"))?;
    ip(&format!("link set {label} master {BRIDGE} up"))?;
    ip(&format!("-n {label} link set lo up"))?;
    ip(&format!("-n {label} addr add {}/24 dev eth0", place.address()))?;
    ip(&format!("-n {label} link set eth0 up"))?;
    // The kubelet wants a default route; the machine need not forward.
    ip(&format!("-n {label} route add default via {HOST}"))?;
    ip(&format!("-n {label} route add unreachable {METADATA}")).map(|_| ())
}

fn link_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

/// A folder of iptables programs that the kernel can serve, for the node's `PATH`. The machine's own choice stays.
pub(crate) fn iptables(folder: &Path, programs: &[PathBuf], environment: &[(String, String)]) -> Result<PathBuf> {
    let place = folder.join("iptables");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
    let find = |name: &str| programs.iter().map(|folder| folder.join(name)).find(|file| file.exists());
    let legacy = find("xtables-legacy-multi").context("no xtables-legacy-multi among the node's programs")?;
    let mut probe = Command::new(&legacy);
    probe.args(["iptables", "-t", "nat", "-S"]).envs(environment.iter().cloned());
    let works = Task::new("ask for legacy iptables", probe).output().is_ok();
    let multi = if works { legacy } else { find("xtables-nft-multi").context("no xtables-nft-multi")? };
    for family in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            symlink(&multi, place.join(format!("{family}{suffix}")))?;
        }
    }
    Ok(place)
}

/// This program, kept beside the node: what it was started from may be built anew meanwhile.
fn own_program(folder: &Path) -> Result<PathBuf> {
    let kept = folder.join("xtask");
    let _first_time = fs::remove_file(&kept);
    fs::copy("/proc/self/exe", &kept).with_context(|| format!("cannot write {}", kept.display()))?;
    Ok(kept)
}
