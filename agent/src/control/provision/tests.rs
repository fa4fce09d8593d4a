//! The plugin on a disk.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::node::{Chain, Node, ProvisionError};

const LIST: &str = r#"{"name": "pods", "cniVersion": "1.0.0", "plugins": [{"type": "bridge"}]}"#;
const SINGLE: &str = r#"{"name": "pods", "cniVersion": "0.3.1", "type": "bridge"}"#;

fn node() -> (TempDir, Node) {
    let directory = tempfile::tempdir().unwrap();
    let [conf_dir, bin_dir] = ["net.d", "bin"].map(|name| directory.path().join(name));
    fs::create_dir(&conf_dir).unwrap();
    fs::create_dir(&bin_dir).unwrap();
    let entry = Map::from_iter([("socket".to_owned(), json!("/run/sotto/cni.sock"))]);
    (directory, Node { conf_dir, bin_dir, entry })
}

fn types(path: &Path) -> Vec<String> {
    let list: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    list["plugins"].as_array().unwrap().iter().map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect()
}

/// Names and contents of a directory.
fn files(directory: &Path) -> Vec<(String, Value)> {
    let read = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).unwrap();
        (entry.file_name().into_string().unwrap(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    };
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| read(entry.unwrap())).collect();
    files.sort_by(|one, other| one.0.cmp(&other.0));
    files
}

#[test]
fn a_list_is_extended_where_it_is_and_restored() {
    let (_directory, node) = node();
    assert_eq!(node.extend().unwrap(), Chain::NoneYet);
    let (path, later) = (node.conf_dir.join("10-pods.conflist"), node.conf_dir.join("87-podman.conflist"));
    fs::write(&path, LIST).unwrap();
    fs::write(&later, LIST).unwrap();
    let before = files(&node.conf_dir);
    assert_eq!(node.extend().unwrap(), Chain::Extended(path.clone()));
    assert_eq!(types(&path), ["bridge", "sotto-cni"]);
    assert_eq!(types(&later), ["bridge"]);
    assert_eq!(node.extend().unwrap(), Chain::InPlace(path.clone()));
    // Its owner writes it anew.
    fs::write(&path, LIST).unwrap();
    assert_eq!(node.extend().unwrap(), Chain::Extended(path));
    node.remove().unwrap();
    assert_eq!(files(&node.conf_dir), before);
    node.remove().unwrap();
}

#[test]
fn a_single_plugin_becomes_a_list_and_comes_back() {
    let (_directory, node) = node();
    fs::write(node.conf_dir.join("10-pods.conf"), SINGLE).unwrap();
    let before = files(&node.conf_dir);
    let list = node.conf_dir.join("10-pods.conflist");
    assert_eq!(node.extend().unwrap(), Chain::Extended(list.clone()));
    assert_eq!(types(&list), ["bridge", "sotto-cni"]);
    assert_eq!(node.extend().unwrap(), Chain::InPlace(list));
    node.remove().unwrap();
    assert_eq!(files(&node.conf_dir), before);
}

#[test]
fn a_broken_configuration_is_named_and_left_alone() {
    let (_directory, node) = node();
    let path = node.conf_dir.join("10-pods.conflist");
    fs::write(&path, "{").unwrap();
    let error = node.extend().unwrap_err();
    assert!(matches!(error, ProvisionError::Configuration { .. }), "{error}");
    assert!(error.to_string().contains("10-pods.conflist"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{");
    node.remove().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{");
}

#[test]
fn the_binary_is_replaced_and_removed() {
    let (directory, node) = node();
    let program = directory.path().join("program");
    for content in ["one", "two"] {
        fs::write(&program, content).unwrap();
        node.install(&program).unwrap();
        assert_eq!(files(&node.bin_dir), [("sotto-cni".to_owned(), Value::String(content.to_owned()))]);
    }
    node.remove().unwrap();
    assert_eq!(files(&node.bin_dir), []);
}
