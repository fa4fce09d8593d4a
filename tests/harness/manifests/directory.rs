//! Kubernetes objects as files in the directory that the agents watch.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The directory of manifests, one file per object.
#[derive(Debug)]
pub(crate) struct Manifests {
    directory: PathBuf,
    /// On the same file system, but not watched.
    staging: PathBuf,
}

impl Manifests {
    pub(crate) fn new(parent: &Path) -> Self {
        let (directory, staging) = (parent.join("manifests"), parent.join("staging"));
        for path in [&directory, &staging] {
            fs::create_dir(path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        }
        Self { directory, staging }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes an object's file, by renaming a finished file over it.
    pub(crate) fn apply(&self, object: &Value) {
        let yaml =
            serde_saphyr::to_string(object).unwrap_or_else(|error| panic!("cannot write {object} as YAML: {error}"));
        self.write(&file_name(object), &yaml);
    }

    /// Removes an object's file.
    pub(crate) fn delete(&self, object: &Value) {
        let path = self.directory.join(file_name(object));
        fs::remove_file(&path).unwrap_or_else(|error| panic!("cannot remove {}: {error}", path.display()));
    }

    /// Puts a finished file in place under this name, at once.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let (from, to) = (self.staging.join(file), self.directory.join(file));
        fs::write(&from, text)
            .and_then(|()| fs::rename(&from, &to))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", to.display()));
    }
}

/// `pod-demo-client.yaml`
pub(crate) fn file_name(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let kind = text("/kind").unwrap_or_else(|| panic!("an object without a kind: {object}")).to_lowercase();
    let name = text("/metadata/name").unwrap_or_else(|| panic!("an object without a name: {object}"));
    match text("/metadata/namespace") {
        Some(namespace) => format!("{kind}-{namespace}-{name}.yaml"),
        None => format!("{kind}-{name}.yaml"),
    }
}
