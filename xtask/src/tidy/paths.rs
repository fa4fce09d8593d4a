//! Every path that a Rust file names: in `use` trees, in code, and in the arguments of macros.

use std::collections::HashSet;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path and where it is written; `super` is resolved, `crate` is the first segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// From `crate` or the name of a foreign crate on.
    pub(super) segments: Vec<String>,
    /// From 1.
    pub(super) line: usize,
}

/// The paths in a file whose module is `module` (the names below the crate root).
pub(super) fn named(syntax: &syn::File, module: &[String]) -> Vec<Named> {
    let mut reader = Reader { module: module.to_vec(), named: Vec::new(), own: HashSet::new() };
    reader.visit_file(syntax);
    let Reader { named, own, .. } = reader;
    // A module of ours may be called like a foreign crate: what is imported or declared here shadows it.
    named.into_iter().filter(|path| !own.contains(&path.segments[0])).collect()
}

/// The module that a file below a crate's `src` is.
pub(super) fn module_of(file: &Path) -> Vec<String> {
    let mut parts: Vec<_> =
        file.with_extension("").components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

struct Reader {
    module: Vec<String>,
    named: Vec<Named>,
    own: HashSet<String>,
}

impl Reader {
    fn record(&mut self, segments: Vec<String>, line: usize) {
        let ups = segments.iter().take_while(|segment| *segment == "super").count();
        let segments = if ups == 0 {
            segments
        } else {
            let base = self.module.len().saturating_sub(ups);
            std::iter::once("crate")
                .chain(self.module[..base].iter().map(String::as_str))
                .map(str::to_owned)
                .chain(segments.into_iter().skip(ups))
                .collect()
        };
        if segments.first().is_some_and(|first| first != "self" && first != "Self") {
            self.named.push(Named { segments, line });
        }
    }

    fn use_tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| {
            let mut path = before.to_vec();
            path.push(ident.to_string());
            path
        };
        match tree {
            syn::UseTree::Path(path) => self.use_tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => self.import(with(&name.ident), &name.ident, &name.ident),
            syn::UseTree::Rename(rename) => self.import(with(&rename.ident), &rename.ident, &rename.rename),
            syn::UseTree::Glob(glob) => self.record(before.to_vec(), glob.star_token.spans[0].start().line),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.use_tree(item, before)),
        }
    }

    fn import(&mut self, mut path: Vec<String>, ident: &syn::Ident, local: &syn::Ident) {
        if ident == "self" {
            path.pop();
        }
        if path.len() > 1 && matches!(path[0].as_str(), "crate" | "super" | "self") {
            let name =
                if ident == "self" && local == "self" { path[path.len() - 1].clone() } else { local.to_string() };
            self.own.insert(name);
        }
        self.record(path, ident.span().start().line);
    }

    /// `a :: b :: c` in tokens that only a macro understands.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.flush(&mut path, line);
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.flush(&mut path, line);
                    colons = 0;
                    self.tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.flush(&mut path, line);
                    colons = 0;
                }
            }
        }
        self.flush(&mut path, line);
    }

    fn flush(&mut self, path: &mut Vec<String>, line: usize) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.record(path, line);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&item.tree, &[]);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.own.insert(item.ident.to_string());
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.record(segments, path.segments[0].ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        self.tokens(call.tokens.clone());
    }

    // `pub(in crate::tidy)` names who may look in, not what is used.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(module: &[&str], text: &str) -> Vec<String> {
        let module: Vec<_> = module.iter().map(|part| (*part).to_owned()).collect();
        named(&syn::parse_file(text).unwrap(), &module).into_iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let text = "use crate::{model::Pod, sys::{self, netns as ns}, runtime::*};";
        assert_eq!(paths(&[], text), ["crate::model::Pod", "crate::sys", "crate::sys::netns", "crate::runtime"]);
    }

    #[test]
    fn inline_paths_count_in_types_expressions_and_macros() {
        let text =
            "fn f(pod: crate::model::Pod) { crate::sys::go(); info!(\"{}\", crate::roles::name(aya::maps::N)); }";
        assert_eq!(paths(&[], text), ["crate::model::Pod", "crate::sys::go", "crate::roles::name", "aya::maps::N"]);
    }

    #[test]
    fn supers_are_resolved() {
        let text = "use super::super::tunnel::Stream;\nmod tests { use super::Key; use super::super::store; }";
        let expected =
            ["crate::drivers::tunnel::Stream", "crate::drivers::certs::keys::Key", "crate::drivers::certs::store"];
        assert_eq!(paths(&["drivers", "certs", "keys"], text), expected);
    }

    #[test]
    fn a_module_of_ours_shadows_a_foreign_crate() {
        assert_eq!(paths(&[], "use crate::wire::h2; fn f() { h2::open(); }"), ["crate::wire::h2"]);
        assert!(paths(&[], "mod h2; fn f() { h2::open(); }").is_empty());
        assert_eq!(paths(&[], "fn f() { h2::open(); }"), ["h2::open"]);
    }

    #[test]
    fn visibility_is_no_use() {
        assert!(paths(&[], "pub(in crate::roles) fn f() {}").is_empty());
    }

    #[test]
    fn files_are_modules() {
        assert_eq!(module_of(Path::new("drivers/certs/mod.rs")), ["drivers", "certs"]);
        assert_eq!(module_of(Path::new("cli.rs")), ["cli"]);
        assert!(module_of(Path::new("lib.rs")).is_empty());
    }
}
