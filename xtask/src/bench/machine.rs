//! On what it was measured, and with which versions.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::tools::Tools;
use crate::workspace::{Workspace, setting};

/// Names and values for the head of a report.
pub(super) fn facts(
    workspace: &Workspace,
    tools: &Tools,
    sotto: &Path,
    from_tree: bool,
) -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?.to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let processor = field(&read("/proc/cpuinfo"), "model name");
    let memory = field(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let commit = from_tree
        .then(|| {
            output(Command::new("git").args(["-C"]).arg(&workspace.root).args([
                "describe",
                "--always",
                "--dirty",
                "--abbrev=10",
            ]))
        })
        .flatten();
    let ztunnel = setting("ZTUNNEL_BIN").and_then(|program| output(Command::new(program).arg("version")));
    let envoy = tools.envoy.as_ref().and_then(|_| tools.version("envoy", "--version"));
    let facts = [
        ("processor", processor),
        ("memory", memory.map(|kib| format!("{:.0} GiB", kib as f64 / f64::from(1 << 20)))),
        ("kernel", Some(read("/proc/sys/kernel/osrelease").trim().to_owned())),
        (
            "sotto",
            output(Command::new(sotto).arg("--version")).map(|version| match commit {
                Some(commit) => format!("{version} ({commit})"),
                None => version,
            }),
        ),
        (
            "envoy",
            envoy.and_then(|text| {
                text.split('/')
                    .find(|part| part.starts_with(|c: char| c.is_ascii_digit()) && part.contains('.'))
                    .map(str::to_owned)
            }),
        ),
        ("ztunnel", ztunnel.map(|text| quoted(&text, "Version:\"").unwrap_or(text))),
        ("iperf3", tools.version("iperf3", "--version")),
        ("wrk", tools.version("wrk", "--version")),
        ("nginx", tools.version("nginx", "-v")),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).filter(|(_, value)| !value.is_empty()).collect()
}

/// What stands in quotes after `name`.
fn quoted(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(name)?;
    rest.split_once('"').map(|(inside, _)| inside.to_owned())
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_a_program_says_of_its_build() {
        let text = "version.BuildInfo{Version:\"62d8-dirty\", GitRevision:\"62d8\"}";
        assert_eq!(quoted(text, "Version:\"").as_deref(), Some("62d8-dirty"));
        assert_eq!(quoted("none", "Version:\""), None);
    }
}
