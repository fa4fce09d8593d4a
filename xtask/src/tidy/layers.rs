//! One-way layers in `agent/src`, and one home for each foreign library.

use std::path::Path;

use super::finding::Finding;
use super::paths::{Named, module_of, named};
use super::source::{Source, Tree};

/// Where the layered crate lies.
pub(super) const AGENT: &str = "agent/src";

/// One layer: its top folders (or files) may import those of lower layers.
pub(super) struct Layer {
    /// 0 is the lowest.
    pub(super) level: usize,
    /// Names below `agent/src`.
    pub(super) folders: &'static [&'static str],
    /// Whether the units of the layer must not import each other.
    apart: bool,
}

/// The layers of the agent. `agent/src/lib.rs` and ARCHITECTURE.md show the same table to people.
pub(super) const LAYERS: [Layer; 7] = [
    Layer { level: 6, folders: &["cli", "settings"], apart: false },
    Layer { level: 5, folders: &["roles"], apart: false },
    Layer { level: 4, folders: &["traffic", "control"], apart: true },
    Layer { level: 3, folders: &["mesh"], apart: false },
    Layer { level: 2, folders: &["drivers"], apart: true },
    Layer { level: 1, folders: &["telemetry"], apart: false },
    Layer { level: 0, folders: &["model", "runtime", "sys"], apart: true },
];

/// The folder whose children, not itself, are the units of its layer.
const SPLIT: &str = "drivers";

/// Foreign crates and the folders that may name them: their types stop at the edge of their home.
const HOMES: [(&str, &[&str]); 19] = [
    ("addr2line", &["drivers/pprof"]),
    ("aws_lc_rs", &["drivers/certs"]),
    ("aya", &["drivers/redirect"]),
    ("flate2", &["drivers/pprof"]),
    ("framehop", &["sys/profile"]),
    ("h2", &["drivers/tunnel"]),
    ("hyper", &["drivers/admin"]),
    // tonic takes connections as types of hyper_util.
    ("hyper_util", &["drivers/admin", "drivers/grpc"]),
    ("k8s_openapi", &["drivers/cluster"]),
    ("kube", &["drivers/cluster"]),
    ("perf_event", &["sys/profile"]),
    ("prost", &["drivers/grpc", "drivers/pprof"]),
    ("rcgen", &["drivers/certs", "control/authority"]),
    ("rtnetlink", &["sys"]),
    ("rustls", &["drivers/certs", "control/authority"]),
    ("tokio_rustls", &["drivers/certs", "control/authority"]),
    ("tonic", &["drivers/grpc"]),
    ("tonic_prost", &["drivers/grpc"]),
    ("x509_parser", &["drivers/certs", "control/authority"]),
];

/// Imports that point upward or sideways, foreign crates away from home, and folders that are in no layer.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in &tree.sources {
        if let Ok(inner) = source.path.strip_prefix(AGENT) {
            found.extend(check_file(source, &module_of(inner)));
        }
    }
    found
}

fn check_file(source: &Source, module: &[String]) -> Vec<Finding> {
    // The crate root names every module and has no layer itself.
    let Some(top) = module.first() else { return Vec::new() };
    let Some(layer) = layer_of(top) else {
        let message = format!("`{top}` is in no layer");
        let fix = "give it a row in LAYERS (xtask/src/tidy/layers.rs), agent/src/lib.rs and ARCHITECTURE.md";
        return vec![Finding::error(&source.path, 1, "layers", message, fix)];
    };
    let mut found = Vec::new();
    for Named { segments, line } in named(&source.syntax, module) {
        let problem = if segments[0] == "crate" {
            import(layer, module, &segments[1..])
        } else {
            away_from_home(&segments[0], &source.path)
        };
        if let Some((message, fix)) = problem {
            found.push(Finding::error(&source.path, line, "layers", message, fix));
        }
    }
    found.dedup();
    found
}

/// What is wrong with `module` naming `target`, and what to do.
fn import(layer: &Layer, module: &[String], target: &[String]) -> Option<(String, String)> {
    let other = layer_of(target.first()?)?;
    let (own, theirs) = (unit(module), unit(target));
    if other.level > layer.level {
        let message = format!("`{own}` (layer {}) imports `{theirs}` (layer {})", layer.level, other.level);
        Some((message, "move what is needed down, or let the upper layer hand it in".into()))
    } else if other.level == layer.level && layer.apart && own != theirs && theirs != SPLIT {
        let message = format!("`{own}` imports `{theirs}`, its sibling in layer {}", layer.level);
        Some((message, "let a layer above connect the two, or move what they share down".into()))
    } else {
        None
    }
}

fn away_from_home(krate: &str, path: &Path) -> Option<(String, String)> {
    let (_, homes) = HOMES.iter().find(|(name, _)| *name == krate)?;
    let at_home = homes.iter().any(|home| {
        let home = Path::new(AGENT).join(home);
        path.starts_with(&home) || path == home.with_extension("rs")
    });
    let fix = "use it behind a function of its home, and convert its types there".to_owned();
    (!at_home).then(|| (format!("`{krate}` is named outside of its home {}", homes.join(" and ")), fix))
}

fn layer_of(top: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.folders.contains(&top))
}

/// The part of the crate that must keep apart from its siblings.
fn unit(module: &[String]) -> String {
    let parts = if module[0] == SPLIT { 2 } else { 1 };
    module[..parts.min(module.len())].join("/")
}

#[cfg(test)]
mod tests {
    use super::super::source::fixture::tree;
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let (_dir, tree) = tree(&[(path, text)]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn downward_is_fine() {
        assert!(findings("agent/src/roles/node.rs", "use crate::{traffic::l4, model, drivers::tunnel};").is_empty());
        assert!(
            findings("agent/src/drivers/tunnel/client.rs", "use crate::drivers::tunnel::stream; use super::x;")
                .is_empty()
        );
        assert!(findings("agent/src/mesh/upstream/pick.rs", "use crate::mesh::source::X;").is_empty());
    }

    #[test]
    fn upward_is_found_with_its_line() {
        let found = findings("agent/src/model/pod.rs", "\nuse crate::telemetry::log;\n");
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("agent/src/model/pod.rs:2: layers: `model` (layer 0) imports `telemetry` (layer 1)")
        );
    }

    #[test]
    fn siblings_in_the_layers_that_keep_apart_are_found() {
        for (path, text) in [
            ("agent/src/sys/socket.rs", "use crate::model::Address;"),
            ("agent/src/drivers/tunnel/client.rs", "use super::super::certs::Key;"),
            ("agent/src/traffic/l4/dial.rs", "fn f() { crate::control::enroll::go() }"),
        ] {
            assert_eq!(findings(path, text).len(), 1, "{path}");
        }
    }

    #[test]
    fn foreign_crates_stay_at_home() {
        assert!(findings("agent/src/drivers/redirect/maps.rs", "use aya::maps::HashMap;").is_empty());
        assert!(findings("agent/src/sys/routes.rs", "use rtnetlink::Handle;").is_empty());
        assert!(findings("agent/src/control/authority/sign.rs", "use rcgen::KeyPair;").is_empty());
        let found = findings("agent/src/traffic/l4/dial.rs", "fn f() -> rustls::Error { todo() }");
        assert!(
            found[0].contains("`rustls` is named outside of its home drivers/certs and control/authority"),
            "{found:?}"
        );
    }

    #[test]
    fn a_folder_without_a_layer_is_found() {
        assert!(findings("agent/src/util/mod.rs", "//! x")[0].contains("`util` is in no layer"));
    }

    #[test]
    fn the_crate_root_and_other_crates_are_free() {
        assert!(findings("agent/src/main.rs", "use sotto::cli;").is_empty());
        assert!(findings("tests/harness/lib.rs", "use crate::roles::X; use aya::Y;").is_empty());
    }
}
