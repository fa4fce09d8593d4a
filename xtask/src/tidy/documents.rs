//! Documents name only files that exist, and show the layers that the check knows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::finding::Finding;
use super::layers::{AGENT, LAYERS};
use super::source::Tree;

/// Where people read the table of layers.
const TABLES: [&str; 2] = ["ARCHITECTURE.md", "agent/src/lib.rs"];
/// A file of the top layer that is no module.
const ENTRY_POINT: &str = "main";

/// Findings of this file's rules.
pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for path in tree.files.iter().filter(|path| path.extension().is_some_and(|kind| kind == "md")) {
        found.extend(names(tree, path, &tree.text(path)?));
    }
    for path in TABLES.map(Path::new).into_iter().filter(|path| tree.files.iter().any(|file| file == path)) {
        found.extend(table(path, &tree.text(path)?));
    }
    Ok(found)
}

fn names(tree: &Tree, document: &Path, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut in_example = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_example = !in_example;
        } else if !in_example {
            for name in quoted(line).filter(|name| !is_there(tree, document, name)) {
                let message = format!("`{name}` does not exist");
                found.push(Finding::error(
                    document,
                    index + 1,
                    "document",
                    message,
                    "name what is there, or take it out",
                ));
            }
            for link in links(line).filter(|link| !resolves(tree, document, link)) {
                let message = format!("the link to {link} leads nowhere");
                found.push(Finding::error(document, index + 1, "document", message, "link to what is there"));
            }
        }
    }
    found
}

/// The pieces of a line between back quotes.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The targets of `[text](target)` that are in the tree.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#']).next())
        .filter(|link| !link.is_empty() && !link.contains("://") && !link.starts_with("mailto:"))
}

fn resolves(tree: &Tree, document: &Path, link: &str) -> bool {
    let base = if link.starts_with('/') { Path::new("") } else { document.parent().unwrap_or(Path::new("")) };
    tree.root.join(base.join(link.trim_start_matches('/'))).exists()
}

/// Whether a quoted piece exists, or does not look like a path of this tree in the first place.
fn is_there(tree: &Tree, document: &Path, name: &str) -> bool {
    let name = name.trim_end_matches('/').split(':').next().unwrap_or_default();
    // Of a pattern or a placeholder only the folder before it can be checked.
    let fixed = match name.find(['*', '<', '{', '$', '…']) {
        Some(at) => name[..at].rsplit_once('/').map_or("", |(folder, _)| folder),
        None => name,
    };
    if fixed.is_empty() || fixed.contains(char::is_whitespace) {
        return true;
    }
    let here = document.parent().unwrap_or(Path::new(""));
    let bases = [Path::new(""), Path::new(AGENT), here];
    let looks_like_ours = bases.iter().any(|base| is_ours(tree, base, fixed));
    !looks_like_ours || bases.iter().any(|base| tree.root.join(base).join(fixed).exists())
}

/// Whether the path begins in a folder below `base`, or is a document or manifest at the root.
fn is_ours(tree: &Tree, base: &Path, name: &str) -> bool {
    match name.split_once('/') {
        Some((first, _)) => {
            !first.is_empty()
                && first != "."
                && first != ".."
                && tree.root.join(base).join(first).is_dir()
                && first != "target"
        }
        None => {
            let kind = Path::new(name).extension();
            let stem: PathBuf = Path::new(name).with_extension("");
            let shouted = stem.to_string_lossy().chars().all(|character| character.is_ascii_uppercase());
            base.as_os_str().is_empty() && kind.is_some_and(|kind| kind == "md") && shouted
        }
    }
}

/// Compares a document's table of layers with the one that is checked.
fn table(document: &Path, text: &str) -> Vec<Finding> {
    let fix = "show the rows of LAYERS in xtask/src/tidy/layers.rs";
    let (shown, line) = shown_layers(text);
    if shown.is_empty() {
        return vec![Finding::error(
            document,
            1,
            "layer-table",
            "it shows no table of layers (`| Layer | Folder | …`)",
            fix,
        )];
    }
    let mut found = Vec::new();
    for layer in &LAYERS {
        let expected: BTreeSet<_> = layer.folders.iter().map(|folder| (*folder).to_owned()).collect();
        let folders = shown.get(&layer.level).cloned().unwrap_or_default();
        if folders != expected {
            let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
            let message =
                format!("layer {} is shown as [{}] and is [{}]", layer.level, list(&folders), list(&expected));
            found.push(Finding::error(document, line, "layer-table", message, fix));
        }
    }
    for level in shown.keys().filter(|level| !LAYERS.iter().any(|layer| layer.level == **level)) {
        found.push(Finding::error(document, line, "layer-table", format!("there is no layer {level}"), fix));
    }
    found
}

/// The layers of the first table with the columns Layer and Folder, and the line of its head.
fn shown_layers(text: &str) -> (BTreeMap<usize, BTreeSet<String>>, usize) {
    let rows: Vec<(usize, Vec<&str>)> = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_start_matches("//!").trim()))
        .map(|(number, line)| (number, line.trim_matches('|').split('|').map(str::trim).collect()))
        .collect();
    let is_head = |cells: &[&str]| cells.len() > 1 && cells[0] == "Layer" && cells[1].starts_with("Folder");
    let Some(head) = rows.iter().position(|(_, cells)| is_head(cells)) else { return (BTreeMap::new(), 1) };
    let mut layers = BTreeMap::new();
    for (_, cells) in rows[head + 1..].iter().skip(1).take_while(|(_, cells)| cells.len() > 1) {
        if let Ok(level) = cells[0].parse() {
            layers.insert(level, folders(cells[1]));
        }
    }
    (layers, rows[head].0)
}

/// The top folders in a cell like `` `main.rs` `cli.rs settings/` · `mesh/{source,upstream}` ``.
fn folders(cell: &str) -> BTreeSet<String> {
    quoted(cell)
        .flat_map(str::split_whitespace)
        .filter_map(|path| path.split('/').next())
        .map(|name| name.trim_end_matches(".rs").to_owned())
        .filter(|name| !name.is_empty() && name != ENTRY_POINT)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::source::fixture::tree;
    use super::*;

    fn found(document: &str) -> Vec<String> {
        let files = [("README.md", document), ("agent/src/drivers/tunnel/mod.rs", "//! x\n"), ("deploy/README.md", "")];
        let (_dir, tree) = tree(&files);
        check(&tree).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_of_what_is_there_pass() {
        for name in [
            "agent/src/drivers/",
            "drivers/tunnel",
            "deploy/*.yaml",
            "agent/src/<layer>/x",
            "README.md",
            "deploy/README.md:12",
        ] {
            assert!(found(&format!("See `{name}`.")).is_empty(), "{name}");
        }
    }

    #[test]
    fn what_is_no_path_of_ours_passes() {
        for name in
            ["/proc/self", "istio.io/dataplane-mode", "cargo xtask ci", "ns/x/sa/y", "target/sotto-ebpf.o", "pod.yaml"]
        {
            assert!(found(&format!("See `{name}`.")).is_empty(), "{name}");
        }
        assert!(found("```\nagent/nowhere\n`agent/nowhere`\n```\n").is_empty());
    }

    #[test]
    fn names_of_what_is_gone_are_found() {
        for name in ["agent/src/gone.rs", "drivers/gone", "deploy/gone/*.yaml", "GONE.md"] {
            let found = found(&format!("\nSee `{name}`."));
            assert_eq!(found.len(), 1, "{name}");
            assert!(found[0].starts_with("README.md:2: document: "), "{found:?}");
        }
    }

    #[test]
    fn links_lead_somewhere() {
        assert!(found("[a](deploy/README.md#x) [b](https://x.example/y) [c](#here) [d](/agent/src)").is_empty());
        assert_eq!(found("[a](deploy/gone.md)").len(), 1);
    }

    const TABLE: &str = "| Layer | Folder | Inside |\n|---|---|---|\n\
        | 6 | `main.rs cli.rs settings/` | argv |\n| 5 | `roles/` | x |\n| 4 | `traffic/{l4,l7}` · `control/enroll` | x |\n\
        | 3 | `mesh/{source,upstream}` | x |\n| 2 | `drivers/` | x |\n| 1 | `telemetry/` | x |\n\
        | 0 | `model/ runtime/ sys/` | x |\n\nMore.\n";

    #[test]
    fn the_table_of_layers_is_the_one_that_is_checked() {
        assert_eq!(table(Path::new("ARCHITECTURE.md"), TABLE), []);
        let commented: String = TABLE.lines().map(|line| format!("//! {line}\n")).collect();
        assert_eq!(table(Path::new("agent/src/lib.rs"), &commented), []);
    }

    #[test]
    fn a_table_that_differs_is_found() {
        let moved = TABLE.replace("`telemetry/`", "`telemetry/` `mesh/`");
        let found = table(Path::new("ARCHITECTURE.md"), &moved);
        assert!(found.len() == 1 && found[0].message.contains("layer 1 is shown as [mesh, telemetry]"), "{found:?}");
        assert_eq!(table(Path::new("ARCHITECTURE.md"), "No table.\n").len(), 1);
        assert_eq!(table(Path::new("ARCHITECTURE.md"), &TABLE.replace("| 5 |", "| 9 |")).len(), 2);
    }
}
