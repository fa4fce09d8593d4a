//! Objects in and out of an API server, by kubectl.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

/// Where the tier runner has put etcd, the servers and kubectl.
pub(super) const PROGRAMS: &str = "SOTTO_KUBE_BIN";

/// kubectl, and whom it asks.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(super) fn new(kubeconfig: &Path) -> Self {
        let own = std::env::var_os(PROGRAMS).map(|folder| PathBuf::from(folder).join("kubectl"));
        let program = own.filter(|program| program.exists()).unwrap_or_else(|| "kubectl".into());
        Self { program, kubeconfig: kubeconfig.to_owned() }
    }

    /// The file with its way to the server.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// kubectl with these arguments, to be run as the caller likes.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let mut kubeconfig = OsString::from("--kubeconfig=");
        kubeconfig.push(&self.kubeconfig);
        command.arg(kubeconfig).args(arguments).stdin(Stdio::null());
        command
    }

    /// What it prints, or the error that it prints.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub fn attempt(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(arguments).output().unwrap_or_else(|error| panic!("cannot start kubectl: {error}"));
        outcome(&output)
    }

    /// What it prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "many are run for what they do")]
    pub fn run(&self, arguments: &[&str]) -> String {
        self.attempt(arguments).unwrap_or_else(|error| panic!("kubectl {}: {error}", arguments.join(" ")))
    }

    /// An object or a list; null where there is none of that name.
    ///
    /// # Panics
    /// When the server does not answer.
    #[track_caller]
    #[must_use]
    pub fn get(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json", "--ignore-not-found"];
        all.extend(arguments);
        let text = self.run(&all);
        if text.trim().is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("kubectl {}: {error}\n{text}", all.join(" ")))
    }

    /// Creates or changes objects: one of any kind, or several in an array.
    ///
    /// # Panics
    /// When the server refuses one of them.
    #[track_caller]
    pub fn apply(&self, objects: &Value) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let text = if objects.is_array() { list.to_string() } else { objects.to_string() };
        let result = self.feed(&["apply", "-f", "-"], &text);
        assert!(result.is_ok(), "kubectl apply: {result:?}\n{text}");
    }

    /// Posts an object to a path of the API server.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_raw(&self, path: &str, object: &Value) -> Result<String, String> {
        self.feed(&["create", "--raw", path, "-f", "-"], &object.to_string())
    }

    fn feed(&self, arguments: &[&str], text: &str) -> Result<String, String> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start kubectl: {error}"));
        let sent = child.stdin.take().map(|mut stdin| stdin.write_all(text.as_bytes()));
        match (sent, child.wait_with_output()) {
            (Some(Ok(())), Ok(output)) => outcome(&output),
            (unsent, ended) => Err(format!("{unsent:?}, {:?}", ended.map(|output| outcome(&output)))),
        }
    }

    /// A namespace with these labels and a name of its own, which goes with everything in it when the value does.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    #[must_use]
    pub fn namespace(&self, purpose: &str, labels: &Value) -> TestNamespace {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{purpose}-{}-{count}", std::process::id());
        let namespace = TestNamespace { kubectl: self.clone(), name };
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name, "labels": labels}});
        self.apply(&object);
        namespace
    }
}

/// A namespace for one test.
#[derive(Debug)]
pub struct TestNamespace {
    kubectl: Kubectl,
    name: String,
}

impl TestNamespace {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets a label, or removes it.
    ///
    /// # Panics
    /// When the server refuses.
    #[track_caller]
    pub fn label(&self, name: &str, value: Option<&str>) {
        let change = value.map_or_else(|| format!("{name}-"), |value| format!("{name}={value}"));
        self.kubectl.run(&["label", "--overwrite", "namespace", &self.name, &change]);
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        // Pods end at once; the rest of the namespace is removed in its own time, and nobody waits for it.
        let pods = ["-n", &self.name, "delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false"];
        let _ = self.kubectl.attempt(&pods);
        let _ = self.kubectl.attempt(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

fn outcome(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr).trim().to_owned()) }
}
