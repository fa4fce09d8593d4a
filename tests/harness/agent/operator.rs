//! `sotto` as an operator starts it, where the test itself runs.

use std::process::Command;

use serde_json::Value;

use super::program::binary;

/// What a command came to.
#[derive(Debug)]
pub struct Told {
    /// Its exit status.
    pub code: Option<i32>,
    /// What it printed.
    pub text: String,
    /// What it complained of.
    pub error: String,
}

/// Runs `sotto` with these arguments to its end. Nothing in the environment tells it of a cluster.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn operate(arguments: &[&str]) -> Told {
    let mut command = Command::new(binary());
    command.args(arguments).env("NO_COLOR", "1").env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Told { code: output.status.code(), text: text(&output.stdout), error: text(&output.stderr) }
}

impl Told {
    /// What it printed, as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|problem| panic!("{problem}: {self:?}"))
    }
}
