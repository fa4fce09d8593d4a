//! Sizes: files, functions, folders.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::finding::Finding;
use super::source::{Source, Tree};

/// Production lines of a file: above the first a warning, above the second an error.
const FILE_LINES: (usize, usize) = (400, 600);
/// Lines of a `mod.rs`, which lists modules and does nothing.
const MODULE_LIST_LINES: usize = 60;
/// Lines of a function, signature and braces included.
const FUNCTION_LINES: usize = 80;
/// Entries of a folder.
const FOLDER_ENTRIES: usize = 14;
/// Entries of the root, where the habits of many tools put their files.
const ROOT_ENTRIES: usize = 25;
/// Folders of data, one entry per case.
const DATA: [&str; 2] = ["tests/golden", "tests/fuzz"];

/// Everything over its budget.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = folders(tree);
    for source in &tree.sources {
        found.extend(file(source));
        let mut functions = Functions { source, found: Vec::new() };
        functions.visit_file(&source.syntax);
        found.extend(functions.found);
    }
    found
}

fn folders(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (folder, entries) in &tree.folders {
        let root = folder.as_os_str().is_empty();
        let budget = if root { ROOT_ENTRIES } else { FOLDER_ENTRIES };
        if *entries > budget && !DATA.iter().any(|data| folder.starts_with(data)) {
            let shown = if root { ".".into() } else { folder.clone() };
            let message = format!("{entries} entries, the budget is {budget}");
            found.push(Finding::error(
                shown,
                1,
                "folder",
                message,
                "group what belongs together in a folder of its own",
            ));
        }
    }
    found
}

fn file(source: &Source) -> Option<Finding> {
    let lines = source.production_lines();
    if source.path.file_name().is_some_and(|name| name == "mod.rs") && lines > MODULE_LIST_LINES {
        let message = format!("{lines} lines, a mod.rs has at most {MODULE_LIST_LINES}");
        return Some(Finding::error(&source.path, 1, "file", message, "move code into files with names of their own"));
    }
    let (soft, hard) = FILE_LINES;
    if lines <= soft {
        return None;
    }
    let message = format!("{lines} production lines, the budget is {soft} (at most {hard})");
    let finding = Finding::error(&source.path, 1, "file", message, "split it along its ideas");
    Some(if lines > hard { finding } else { finding.into_warning() })
}

struct Functions<'a> {
    source: &'a Source,
    found: Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let from = signature.span().start().line;
        let lines = body.span().end().line + 1 - from;
        if lines > FUNCTION_LINES {
            let message = format!("`{}` has {lines} lines, the budget is {FUNCTION_LINES}", signature.ident);
            self.found.push(Finding::error(&self.source.path, from, "function", message, "give its steps names"));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.measure(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::super::source::fixture::tree;
    use super::*;

    fn one(path: &str, text: &str) -> Vec<Finding> {
        let (_dir, tree) = tree(&[(path, text)]);
        check(&tree)
    }

    #[test]
    fn files_are_warned_about_before_they_fail() {
        assert!(one("a.rs", &"//\n".repeat(400)).is_empty());
        assert_eq!(one("a.rs", &"//\n".repeat(401))[0].severity, Severity::Warning);
        assert_eq!(one("a.rs", &"//\n".repeat(601))[0].severity, Severity::Error);
    }

    #[test]
    fn lines_of_tests_are_free() {
        let text = format!("//! x\n#[cfg(test)]\nmod tests {{\n{}}}\n", "//\n".repeat(900));
        assert!(one("a.rs", &text).is_empty());
    }

    #[test]
    fn a_module_list_is_short() {
        assert!(one("a/mod.rs", &"//\n".repeat(60)).is_empty());
        assert_eq!(one("a/mod.rs", &"//\n".repeat(61))[0].rule, "file");
    }

    #[test]
    fn a_long_function_is_found_where_it_begins() {
        let body = "    x();\n".repeat(78);
        assert!(one("a.rs", &format!("fn f() {{\n{body}}}\n")).is_empty());
        let found =
            one("a.rs", &format!("struct S;\nimpl S {{\n    /// Doc.\n    fn long() {{\n{body}    x();\n}}\n}}\n"));
        assert_eq!((found.len(), found[0].line, found[0].rule), (1, 4, "function"));
    }

    #[test]
    fn crowded_folders_are_found_and_data_is_not() {
        let names: Vec<_> = (0..15).map(|n| format!("deploy/{n}.yaml")).collect();
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
        let (_dir, crowded) = tree(&files);
        assert_eq!(
            check(&crowded)[0].to_string().split(';').next(),
            Some("deploy:1: folder: 15 entries, the budget is 14")
        );

        let names: Vec<_> = (0..15).map(|n| format!("tests/golden/{n}/input.yaml")).collect();
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
        assert!(check(&tree(&files).1).is_empty());
    }
}
