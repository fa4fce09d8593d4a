//! The images that every node has: nothing can be pulled, so they are made here.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::programs::Programs;
use super::state::State;
use crate::image::archive::{Image, Layer, Start};
use crate::process::Task;

/// The infrastructure container of every pod.
pub(super) const PAUSE: &str = "localhost/pause:1";
/// A shell, nc, httpd and the like, for tests.
pub(super) const BUSYBOX: &str = "localhost/busybox:1";
/// Applets that a statically linked glibc cannot run in an empty root: they look names up with libraries that are not there.
const BROKEN: [&str; 2] = ["busybox", "wget"];

/// Writes the archives where they are missing, and names them.
pub(super) fn archives(state: &State, programs: &Programs) -> Result<Vec<PathBuf>> {
    let folder = state.dir().join("images");
    std::fs::create_dir_all(&folder)?;
    let busybox = programs.tool("bin/busybox");
    let mut made = Vec::new();
    for (name, tag) in [("pause", PAUSE), ("busybox", BUSYBOX)] {
        let file = folder.join(format!("{name}.tar"));
        if !file.exists() {
            let mut layer = Layer::new();
            layer.file("bin/busybox", &busybox)?;
            let start = if name == "pause" {
                // The sandbox is ended with SIGKILL, so it need not hear anything else.
                Start { command: vec!["/bin/busybox".into(), "sleep".into(), "inf".into()], arguments: Vec::new() }
            } else {
                for applet in applets(&busybox)? {
                    layer.link(&format!("bin/{applet}"), "busybox")?;
                }
                layer.folder("tmp", 0o1777)?;
                layer.text("etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")?;
                Start { command: Vec::new(), arguments: vec!["/bin/sh".into()] }
            };
            Image { tag: tag.into(), start, layers: vec![layer.finish()?] }.write(&file)?;
        }
        made.push(file);
    }
    Ok(made)
}

fn applets(busybox: &std::path::Path) -> Result<Vec<String>> {
    let mut list = Command::new(busybox);
    list.arg("--list");
    let names = Task::new("list the applets of busybox", list).output().context("is busybox-static unpacked?")?;
    Ok(names.lines().filter(|name| !BROKEN.contains(name)).map(str::to_owned).collect())
}
