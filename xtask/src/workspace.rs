//! Where the workspace lies, what it holds, and the environment that the commands honour.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::Task;

/// The source tree as Cargo sees it.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// The folder of the top-level `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where Cargo builds (`CARGO_TARGET_DIR` and Cargo's own settings are honoured).
    pub(crate) target_dir: PathBuf,
    /// Every target of every member.
    pub(crate) targets: Vec<Target>,
}

/// One library, binary or test program of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The member's package name.
    pub(crate) package: String,
    /// The target's own name.
    pub(crate) name: String,
    /// Cargo's kind: `lib`, `bin`, `test`, …
    pub(crate) kind: String,
}

impl Workspace {
    /// Asks Cargo.
    pub(crate) fn discover() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = PathBuf::from(manifest).parent().context("xtask lies in no workspace")?.to_path_buf();
        let mut metadata = Task::new("read the workspace", cargo());
        metadata.command.args(["metadata", "--no-deps", "--format-version", "1", "--locked"]).current_dir(&root);
        let text = metadata.remedy("bring Cargo.lock up to date with `cargo metadata`, and commit it").output()?;
        Self::from_metadata(root, &text)
    }

    fn from_metadata(root: PathBuf, text: &str) -> Result<Self> {
        let metadata: Value = serde_json::from_str(text).context("cargo metadata printed no JSON")?;
        let target_dir = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
        let mut targets = Vec::new();
        for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
            for target in package["targets"].as_array().into_iter().flatten() {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                targets.push(Target {
                    package: text(&package["name"]),
                    name: text(&target["name"]),
                    kind: text(&target["kind"][0]),
                });
            }
        }
        Ok(Self { root, target_dir: PathBuf::from(target_dir), targets })
    }

    /// `cargo` with its arguments, run from the workspace root.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = cargo();
        command.args(arguments).current_dir(&self.root);
        if self.moved(setting("CARGO_TARGET_DIR").as_deref()) {
            command.env("SOTTO_EBPF_OBJECT", self.ebpf_object());
        }
        command
    }

    /// Whether the agent's build script, which sees `CARGO_TARGET_DIR` only, would look for the object elsewhere. Where it
    /// finds it by itself we say nothing: the variable would rebuild the agent each time it comes or goes.
    fn moved(&self, variable: Option<&OsStr>) -> bool {
        let guess = variable.map_or_else(|| self.root.join("target"), |dir| self.root.join("agent").join(dir));
        guess != self.target_dir
    }

    /// The compiled eBPF programs, as the agent's build script expects to find them.
    pub(crate) fn ebpf_object(&self) -> PathBuf {
        self.target_dir.join("sotto-ebpf.o")
    }

    /// Whether some member has a target of this kind and name.
    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.kind == kind && target.name == name)
    }
}

/// The Cargo that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// An environment variable that is set to something.
pub(crate) fn setting(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether a program of that name is on `PATH`, and where.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let places = env::var_os("PATH")?;
    env::split_paths(&places).map(|place| place.join(program)).find(|file| file.is_file())
}

/// `path` as seen from `root`, for messages.
pub(crate) fn shown<'a>(path: &'a Path, root: &Path) -> std::path::Display<'a> {
    path.strip_prefix(root).unwrap_or(path).display()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_names_targets_and_the_target_directory() {
        let text = r#"{"target_directory": "/build", "packages": [
            {"name": "sotto-tests", "targets": [{"name": "netns", "kind": ["test"]}, {"name": "harness", "kind": ["lib"]}]}]}"#;
        let workspace = Workspace::from_metadata("/tree".into(), text).unwrap();
        assert_eq!(workspace.ebpf_object(), Path::new("/build/sotto-ebpf.o"));
        assert_eq!(workspace.find("test", "netns").unwrap().package, "sotto-tests");
        assert_eq!(workspace.find("bin", "netns"), None);
    }

    #[test]
    fn the_agents_build_script_is_told_where_it_would_not_look() {
        let at = |dir: &str| Workspace { root: "/tree".into(), target_dir: dir.into(), targets: Vec::new() };
        assert!(!at("/tree/target").moved(None));
        assert!(!at("/build").moved(Some(OsStr::new("/build"))));
        assert!(at("/build").moved(None));
        assert!(at("/tree/out").moved(Some(OsStr::new("out"))));
    }

    #[test]
    fn metadata_that_is_not_metadata_is_an_error() {
        assert!(Workspace::from_metadata("/tree".into(), "[]").is_err());
        assert!(Workspace::from_metadata("/tree".into(), "oops").is_err());
    }
}
