//! pid 1 of a node: gives it mounts of its own, then runs and minds containerd, kubelet and kube-proxy.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::sethostname;

use super::cgroups::{self, Layout};
use super::config::{BINDS, Plan, SYSCTLS};
use super::outside::iptables;
use crate::cluster::daemon::await_condition;
use crate::process::Task;

/// Where the node's containerd listens.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
/// How long a program that has ended stays away.
const PAUSE: Duration = Duration::from_secs(1);
/// Folders that a node may write into without the machine seeing it.
const OVERLAID: [&str; 3] = ["/etc", "/opt", "/var"];
/// Where the node's folder is seen while its mounts are made.
const ANCHOR: &str = "/run/sotto-node";

/// Does not end by itself.
pub(crate) fn run(folder: &Path) -> Result<ExitCode> {
    let plan = Plan::read(folder)?;
    cgroups::enter(&plan.label)?;
    unshare(CloneFlags::CLONE_NEWCGROUP).context("cannot make a cgroup namespace")?;
    sethostname(&plan.name).context("cannot name the node")?;
    let layout = mounts(folder)?;
    sysctls();
    let node = Node { folder: folder.to_owned(), environment: environment(folder, &plan)?, plan, layout };
    node.mind()
}

/// Everything private to the node. The order matters: mounts become shared last, or the machine's own would go with ours.
fn mounts(folder: &Path) -> Result<Layout> {
    let layout = cgroups::layout()?;
    fresh("proc", "/proc")?;
    umount2(cgroups::ROOT, MntFlags::MNT_DETACH).context("cannot hide the machine's cgroups")?;
    fresh("sysfs", "/sys")?;
    fresh("bpf", "/sys/fs/bpf")?;
    hierarchies(&layout)?;
    fresh("tmpfs", "/run")?;
    fs::create_dir_all(ANCHOR)?;
    bind(folder, Path::new(ANCHOR))?;
    for place in OVERLAID {
        overlay(place)?;
    }
    for (own, place) in BINDS {
        fs::create_dir_all(place)?;
        bind(&Path::new(ANCHOR).join(own), Path::new(place))?;
    }
    for folder in ["/run/netns", "/run/containerd", "/run/lock"] {
        fs::create_dir_all(folder)?;
    }
    for (key, _) in SYSCTLS {
        let place = Path::new("/proc/sys").join(key);
        if place.exists() {
            bind(&Path::new(ANCHOR).join("sysctl").join(key.replace('/', ".")), &place)?;
        }
    }
    umount2(ANCHOR, MntFlags::MNT_DETACH)?;
    fs::remove_dir(ANCHOR)?;
    // A peer group of this namespace alone: mounts of pods spread within the node (mountPropagation).
    let shared = MsFlags::MS_REC | MsFlags::MS_SHARED;
    mount(None::<&str>, "/", None::<&str>, shared, None::<&str>).context("cannot share the node's mounts")?;
    Ok(layout)
}

/// The machine's hierarchies again, seen from the node's own groups.
fn hierarchies(layout: &Layout) -> Result<()> {
    let Layout::Legacy(folders) = layout else {
        fresh("cgroup2", cgroups::ROOT)?;
        return cgroups::delegate(Path::new(cgroups::ROOT));
    };
    fresh("tmpfs", cgroups::ROOT)?;
    for name in folders {
        let place = Path::new(cgroups::ROOT).join(name);
        fs::create_dir(&place)?;
        let (kind, options) = match name.as_str() {
            "unified" => ("cgroup2", None),
            "systemd" => ("cgroup", Some("none,name=systemd")),
            controllers => ("cgroup", Some(controllers)),
        };
        mount(Some(kind), &place, Some(kind), MsFlags::empty(), options)
            .with_context(|| format!("cannot mount the cgroup hierarchy {name}"))?;
    }
    Ok(())
}

fn fresh(kind: &str, place: &str) -> Result<()> {
    mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount {kind} at {place}"))
}

fn bind(from: &Path, place: &Path) -> Result<()> {
    mount(Some(from), place, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot show {} at {}", from.display(), place.display()))
}

/// Writes below `place` go to memory.
fn overlay(place: &str) -> Result<()> {
    let upper = format!("/run/sotto-writes{place}");
    let work = format!("/run/sotto-writes/.work{place}");
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let options = format!("lowerdir={place},upperdir={upper},workdir={work}");
    mount(Some("overlay"), place, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("cannot mount an overlay over {place}"))
}

/// A node forwards; its network namespace is its own. What a kernel does not have is no loss.
fn sysctls() {
    for (key, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/bridge/bridge-nf-call-iptables", "1"),
    ] {
        let _ = fs::write(Path::new("/proc/sys").join(key), value);
    }
}

fn environment(folder: &Path, plan: &Plan) -> Result<Vec<(String, String)>> {
    let shown = |path: &Path| path.display().to_string();
    let mut environment = vec![
        ("LD_LIBRARY_PATH".to_owned(), shown(&plan.libraries)),
        ("XTABLES_LIBDIR".to_owned(), shown(&plan.extensions)),
        ("CONTAINERD_ADDRESS".to_owned(), SOCKET.to_owned()),
    ];
    let first = iptables(folder, &plan.programs, &environment)?;
    let machine = std::env::var_os("PATH").unwrap_or_default().to_string_lossy().into_owned();
    let places = std::iter::once(&first).chain(&plan.programs).map(|place| shown(place));
    let path: Vec<_> = places.chain([machine]).collect();
    environment.push(("PATH".into(), path.join(":")));
    Ok(environment)
}

struct Node {
    folder: PathBuf,
    environment: Vec<(String, String)>,
    plan: Plan,
    layout: Layout,
}

impl Node {
    /// Starts everything, and again what has ended.
    fn mind(&self) -> Result<ExitCode> {
        let mut running = BTreeMap::new();
        running.insert(self.start("containerd")?, "containerd");
        self.load_images()?;
        for name in ["kubelet", "kube-proxy"] {
            running.insert(self.start(name)?, name);
        }
        loop {
            // Everything that is orphaned on the node becomes our child, too.
            let ended = match wait() {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => running.remove(&pid.as_raw()),
                Ok(_) => None,
                Err(error) => return Err(error).context("nothing is left to wait for"),
            };
            if let Some(name) = ended {
                println!("{name} has ended: starting it again");
                thread::sleep(PAUSE);
                running.insert(self.start(name)?, name);
            }
        }
    }

    fn start(&self, name: &'static str) -> Result<i32> {
        let mut command = match name {
            "containerd" => {
                let mut command = self.command(Path::new("containerd"));
                command.arg("--config").arg(self.folder.join("containerd.toml"));
                command
            }
            "kubelet" => self.kubelet(),
            _ => {
                let mut command = self.command(&self.plan.servers.join("kube-proxy"));
                command.arg("--config").arg(self.folder.join("kube-proxy.json"));
                command
            }
        };
        let log = Path::new("/var/log").join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        command.stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(i32::try_from(child.id())?)
    }

    fn kubelet(&self) -> Command {
        let Plan { name, address, servers, pki, .. } = &self.plan;
        // In a cgroup of its own, as systemd has it: by that others tell its connections from those of pods on the node's network.
        let mut command = self.command(Path::new("sh"));
        command.arg("-c").arg(r#"mkdir -p "$0" && echo $$ >"$0/cgroup.procs" && exec "$@""#);
        command.arg(cgroups::unified(&self.layout).join("system.slice/kubelet.service")).arg(servers.join("kubelet"));
        command.arg(format!("--config={}", self.folder.join("kubelet.json").display()));
        command.arg(format!("--kubeconfig={}", pki.join(format!("{name}.conf")).display()));
        command.arg(format!("--hostname-override={name}")).arg(format!("--node-ip={address}"));
        command.arg("--container-runtime=remote").arg(format!("--container-runtime-endpoint=unix://{SOCKET}"));
        command.arg(format!("--pod-infra-container-image={}", crate::cluster::images::PAUSE));
        command.args(["--root-dir=/var/lib/kubelet", "--cert-dir=/var/lib/kubelet/pki", "--v=1"]);
        command
    }

    fn load_images(&self) -> Result<()> {
        let ctr = |arguments: &[&str]| {
            let mut command = self.command(Path::new("ctr"));
            command.args(arguments);
            Task::new("ask containerd", command).output()
        };
        await_condition(Duration::from_secs(60), || ctr(&["version"]).map(|_| ()))?;
        for image in &self.plan.images {
            ctr(&["--namespace", "k8s.io", "images", "import", &image.display().to_string()])?;
        }
        Ok(())
    }

    /// A program of the node. It is looked for in the node's `PATH`, not in ours.
    fn command(&self, program: &Path) -> Command {
        let place = self.plan.programs.iter().map(|folder| folder.join(program)).find(|file| file.exists());
        let mut command = Command::new(place.as_deref().unwrap_or(program));
        command.envs(self.environment.iter().cloned()).current_dir("/");
        command
    }
}
