//! Questions to the API server, by kubectl.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::Task;

/// kubectl with a kubeconfig.
#[derive(Debug, Clone)]
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// A program and whom it shall ask.
    pub(super) fn new(program: &Path, kubeconfig: &Path) -> Self {
        Self { program: program.to_owned(), kubeconfig: kubeconfig.to_owned() }
    }

    /// What it prints.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["--request-timeout", "10s"]).args(arguments);
        Task::new("ask the API server", command).output()
    }

    /// An error unless the API server says that it is ready.
    pub(super) fn ready(&self) -> Result<()> {
        let answer = self.run(&["get", "--raw", "/readyz"])?;
        ensure!(answer.trim() == "ok", "the API server is not ready: {answer}");
        Ok(())
    }

    /// Name and readiness of every Node.
    pub(super) fn nodes(&self) -> Result<Vec<(String, bool)>> {
        nodes(&self.run(&["get", "nodes", "-o", "json"])?)
    }

    /// The server's version.
    pub(super) fn version(&self) -> Result<String> {
        let answer: Value = serde_json::from_str(&self.run(&["get", "--raw", "/version"])?)?;
        Ok(answer["gitVersion"].as_str().context("the API server names no version")?.to_owned())
    }
}

fn nodes(text: &str) -> Result<Vec<(String, bool)>> {
    let list: Value = serde_json::from_str(text).context("kubectl printed no JSON")?;
    let ready = |node: &Value| {
        let conditions = node["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    let name = |node: &Value| node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Ok(list["items"].as_array().into_iter().flatten().map(|node| (name(node), ready(node))).collect())
}

/// Whether a kubectl's answer to `version --client -o json` is 1.24 or newer, which has `create token` and `--subresource`.
pub(super) fn is_recent(answer: &str) -> bool {
    let Ok(answer) = serde_json::from_str::<Value>(answer) else { return false };
    let number = |field: &str| {
        let text = answer["clientVersion"][field].as_str()?;
        text.trim_end_matches(|character: char| !character.is_ascii_digit()).parse::<u32>().ok()
    };
    matches!((number("major"), number("minor")), (Some(major), Some(minor)) if (major, minor) >= (1, 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_when_it_says_so() {
        let text = r#"{"items": [
            {"metadata": {"name": "a"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
            {"metadata": {"name": "b"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
            {"metadata": {"name": "c"}}]}"#;
        assert_eq!(nodes(text).unwrap(), [("a".into(), true), ("b".into(), false), ("c".into(), false)]);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let of = |minor: &str| format!(r#"{{"clientVersion": {{"major": "1", "minor": "{minor}"}}}}"#);
        assert!(is_recent(&of("24")) && is_recent(&of("32+")));
        assert!(!is_recent(&of("20")) && !is_recent(&of("9")) && !is_recent("oops"));
    }
}
