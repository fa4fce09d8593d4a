//! A group of its own for each node in every hierarchy of the machine, which the node sees as the root.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Where the hierarchies are mounted.
pub(super) const ROOT: &str = "/sys/fs/cgroup";
/// What the kubelet asks a unified hierarchy for.
const CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];
/// Where a unified hierarchy keeps the node's own processes: a group with controllers below must be empty.
const LEAF: &str = "init";

/// How the machine has its hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Layout {
    /// One for each set of controllers (cgroups(7), version 1), by folder; cgroup2 may be among them.
    Legacy(Vec<String>),
    /// cgroup2 alone.
    Unified,
}

/// Looks at what is mounted.
pub(super) fn layout() -> Result<Layout> {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return Ok(Layout::Unified);
    }
    let mut folders = Vec::new();
    for entry in fs::read_dir(ROOT).context("cannot list /sys/fs/cgroup")? {
        let entry = entry?;
        // Links are other names of what is listed anyway.
        if entry.file_type()?.is_dir() && entry.path().join("cgroup.procs").exists() {
            folders.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    folders.sort();
    if folders.is_empty() {
        bail!("no cgroup hierarchy is mounted below {ROOT}");
    }
    Ok(Layout::Legacy(folders))
}

/// Makes the node's groups.
pub(super) fn create(label: &str) -> Result<()> {
    let layout = layout()?;
    for group in groups(&layout, label) {
        fs::create_dir_all(&group).with_context(|| format!("cannot create the cgroup {}", group.display()))?;
        let above = group.parent().context("a group is below a hierarchy")?;
        // A cpuset starts empty and takes no process then.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if layout != Layout::Unified && above.join(file).exists() {
                fs::write(group.join(file), fs::read(above.join(file))?)?;
            }
        }
        if layout == Layout::Unified {
            delegate(above)?;
            fs::create_dir_all(group.join(LEAF))?;
        }
    }
    Ok(())
}

/// Moves the calling process into the node's groups.
pub(super) fn enter(label: &str) -> Result<()> {
    let layout = layout()?;
    for group in groups(&layout, label) {
        let group = if layout == Layout::Unified { group.join(LEAF) } else { group };
        fs::write(group.join("cgroup.procs"), "0").with_context(|| format!("cannot join {}", group.display()))?;
    }
    Ok(())
}

/// Where a node sees cgroup2.
pub(super) fn unified(layout: &Layout) -> PathBuf {
    match layout {
        Layout::Legacy(_) => Path::new(ROOT).join("unified"),
        Layout::Unified => PathBuf::from(ROOT),
    }
}

/// Lets the groups below `group` have every controller that is there.
pub(super) fn delegate(group: &Path) -> Result<()> {
    let offered = fs::read_to_string(group.join("cgroup.controllers"))?;
    let wanted = CONTROLLERS.iter().filter(|name| offered.split_whitespace().any(|one| one == **name));
    for name in wanted {
        fs::write(group.join("cgroup.subtree_control"), format!("+{name}"))
            .with_context(|| format!("cannot delegate the controller {name} below {}", group.display()))?;
    }
    Ok(())
}

/// Removes the node's groups, once the processes in them are gone.
pub(super) fn remove(label: &str) -> Result<()> {
    const ATTEMPTS: u32 = 100;
    let groups: Vec<_> = groups(&layout()?, label).into_iter().filter(|group| group.exists()).collect();
    for attempt in 1.. {
        groups.iter().for_each(|group| prune(group));
        let Some(left) = groups.iter().find(|group| group.exists()) else { return Ok(()) };
        if attempt == ATTEMPTS {
            bail!("the cgroup {} cannot be removed: processes are in it", left.display());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Whether the node has a group left.
pub(super) fn exist(label: &str) -> bool {
    layout().is_ok_and(|layout| groups(&layout, label).iter().any(|group| group.exists()))
}

fn groups(layout: &Layout, label: &str) -> Vec<PathBuf> {
    match layout {
        Layout::Legacy(folders) => folders.iter().map(|folder| Path::new(ROOT).join(folder).join(label)).collect(),
        Layout::Unified => vec![Path::new(ROOT).join(label)],
    }
}

/// Removes a group and those below it, as far as they are empty. Only folders can be removed there.
fn prune(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            prune(&entry.path());
        }
    }
    // Groups with processes stay; the caller looks again.
    let _ = fs::remove_dir(group);
}
