//! On what it was measured, and with which versions.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::tools::Tools;
use crate::workspace::{Workspace, setting};

/// Names and values for the head of a report.
pub(super) fn facts(workspace: &Workspace, tools: &Tools, sotto: &Path) -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?.to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let processor = field(&read("/proc/cpuinfo"), "model name");
    let memory = field(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let commit = output(Command::new("git").args(["-C"]).arg(&workspace.root).args(["describe", "--always", "--dirty", "--abbrev=10"]));
    let ztunnel = setting("ZTUNNEL_BIN").and_then(|program| output(Command::new(program).arg("version")));
    let facts = [
        ("processor", processor),
        ("memory", memory.map(|kib| format!("{:.0} GiB", kib as f64 / f64::from(1 << 20)))),
        ("kernel", Some(read("/proc/sys/kernel/osrelease").trim().to_owned())),
        ("sotto", output(Command::new(sotto).arg("--version")).map(|version| format!("{version} ({})", commit.unwrap_or_default()))),
        ("envoy", tools.envoy.as_ref().and_then(|_| tools.version("envoy", "--version"))),
        ("ztunnel", ztunnel.map(|text| text.chars().take(200).collect())),
        ("iperf3", tools.version("iperf3", "--version")),
        ("wrk", tools.version("wrk", "--version")),
        ("nginx", tools.version("nginx", "-v")),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).filter(|(_, value)| !value.is_empty()).collect()
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
