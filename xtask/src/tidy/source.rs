//! The tree as the rules see it: its folders, and its Rust files parsed once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::spanned::Spanned;

use super::finding::Finding;

/// Entries that are no part of the tree: Git's own, what is built, what editors leave.
const NOT_OURS: [&str; 5] = [".git", "target", ".idea", ".vscode", ".DS_Store"];

/// A parsed Rust file.
pub(super) struct Source {
    /// Relative to the root of the tree.
    pub(super) path: PathBuf,
    /// As written.
    pub(super) text: String,
    /// As parsed.
    pub(super) syntax: syn::File,
}

/// Everything below the root.
pub(super) struct Tree {
    /// Where it lies.
    pub(super) root: PathBuf,
    /// Each folder, relative to the root (which is the empty path), with its number of entries.
    pub(super) folders: Vec<(PathBuf, usize)>,
    /// Every file, relative to the root.
    pub(super) files: Vec<PathBuf>,
    /// The Rust files that parse.
    pub(super) sources: Vec<Source>,
    /// Those that do not.
    pub(super) unreadable: Vec<Finding>,
}

impl Tree {
    /// Reads the tree at `root`.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self {
            root: root.to_path_buf(),
            folders: Vec::new(),
            files: Vec::new(),
            sources: Vec::new(),
            unreadable: Vec::new(),
        };
        tree.walk(Path::new(""))?;
        tree.files.sort();
        for path in tree.files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
            let text = tree.text(path)?;
            match syn::parse_file(&text) {
                Ok(syntax) => tree.sources.push(Source { path: path.clone(), text, syntax }),
                Err(error) => tree.unreadable.push(Finding::error(
                    path,
                    error.span().start().line,
                    "parse",
                    format!("this is no Rust: {error}"),
                    "let it compile first",
                )),
            }
        }
        Ok(tree)
    }

    /// The text of a file of the tree.
    pub(super) fn text(&self, path: &Path) -> Result<String> {
        let bytes = fs::read(self.root.join(path)).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn walk(&mut self, folder: &Path) -> Result<()> {
        let place = self.root.join(folder);
        let mut entries = 0;
        for entry in fs::read_dir(&place).with_context(|| format!("cannot list {}", place.display()))? {
            let entry = entry?;
            if NOT_OURS.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            entries += 1;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.walk(&path)?;
            } else {
                self.files.push(path);
            }
        }
        self.folders.push((folder.to_path_buf(), entries));
        Ok(())
    }
}

impl Source {
    /// Whether the whole file is there for unit tests only: `tests.rs`, or below a folder `tests` beside the code.
    pub(super) fn is_unit_test(&self) -> bool {
        let inner = self.path.strip_prefix("tests").unwrap_or(&self.path);
        inner.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
    }

    /// Lines that are not in a `#[cfg(test)]` module.
    pub(super) fn production_lines(&self) -> usize {
        if self.is_unit_test() {
            return 0;
        }
        let tests: usize = self.syntax.items.iter().filter(|item| is_for_tests(item)).map(lines_of).sum();
        self.text.lines().count().saturating_sub(tests)
    }
}

fn is_for_tests(item: &syn::Item) -> bool {
    let syn::Item::Mod(item) = item else { return false };
    item.attrs.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        list.path.is_ident("cfg") && list.tokens.to_string() == "test"
    })
}

/// Lines from the first to the last token of a piece of syntax.
pub(super) fn lines_of(syntax: &impl Spanned) -> usize {
    let span = syntax.span();
    span.end().line + 1 - span.start().line
}

#[cfg(test)]
pub(super) mod fixture {
    use super::*;

    /// A tree of these files in a temporary folder, which lives as long as the first value.
    pub(in crate::tidy) fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = dir.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let tree = Tree::read(dir.path()).unwrap();
        (dir, tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_modules_are_no_production_lines() {
        let text = "//! A file.\nfn one() {}\n\n#[cfg(test)]\nmod tests {\n    fn two() {}\n}\n";
        let (_dir, tree) = fixture::tree(&[("a.rs", text), ("b/tests.rs", "//! Tests.\nfn x() {}\n")]);
        let lines: Vec<_> = tree.sources.iter().map(Source::production_lines).collect();
        assert_eq!(lines, [3, 0]);
    }

    #[test]
    fn the_tier_folder_is_not_a_unit_test() {
        let (_dir, tree) = fixture::tree(&[("tests/harness/pod.rs", "//! A pod.\nfn x() {}\n")]);
        assert_eq!(tree.sources[0].production_lines(), 2);
    }

    #[test]
    fn what_is_built_is_not_read_and_what_does_not_parse_is_found() {
        let (_dir, tree) = fixture::tree(&[("target/debug/out.rs", "("), ("a.rs", "\n(\n")]);
        assert!(tree.sources.is_empty());
        assert_eq!((tree.unreadable.len(), tree.unreadable[0].path.to_str()), (1, Some("a.rs")));
    }
}
