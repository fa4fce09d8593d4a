//! What every file begins with, where `unsafe` may stand, and words that promise work instead of doing it.

use std::path::Path;

use anyhow::Result;
use proc_macro2::{TokenStream, TokenTree};

use super::finding::Finding;
use super::source::{Source, Tree};

/// The only places where `unsafe` may be written.
const UNSAFE_HOMES: [&str; 2] = ["agent/src/sys", "ebpf"];
/// Split, so that this file does not contain them.
const PROMISES: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
/// Kinds of files in which a promise would be kept unseen.
const READ_FOR_PROMISES: [&str; 7] = ["rs", "toml", "md", "yaml", "yml", "sh", "service"];

/// Findings of this file's rules.
pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for source in &tree.sources {
        found.extend(module_doc(source));
        if !UNSAFE_HOMES.iter().any(|home| source.path.starts_with(home)) {
            found.extend(unsafe_words(source));
        }
    }
    for path in &tree.files {
        let read = path.extension().is_some_and(|kind| READ_FOR_PROMISES.iter().any(|read| kind == *read));
        if read || path == Path::new(".ci/run") {
            found.extend(promises(path, &tree.text(path)?));
        }
    }
    Ok(found)
}

fn module_doc(source: &Source) -> Option<Finding> {
    let first = source.text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//!").is_some_and(|text| !text.trim().is_empty());
    let fix = "let the first line be `//!` and what the file is for";
    (!says).then(|| Finding::error(&source.path, 1, "module-doc", "the file does not say what it is for", fix))
}

fn unsafe_words(source: &Source) -> Vec<Finding> {
    let Ok(tokens) = source.text.parse::<TokenStream>() else { return Vec::new() };
    let mut lines = Vec::new();
    find_unsafe(tokens, &mut lines);
    let message = "`unsafe` outside of agent/src/sys and ebpf";
    let fix = "give agent/src/sys a safe function for it";
    lines.into_iter().map(|line| Finding::error(&source.path, line, "unsafe", message, fix)).collect()
}

fn find_unsafe(tokens: TokenStream, lines: &mut Vec<usize>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == "unsafe" => lines.push(ident.span().start().line),
            TokenTree::Group(group) => find_unsafe(group.stream(), lines),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

fn promises(path: &Path, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut words = line.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        if let Some(word) = words.find(|word| PROMISES.contains(word)) {
            let fix = "do it, or say in the document that owns the subject what is missing";
            found.push(Finding::error(path, index + 1, "promise", format!("{word} is no plan"), fix));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::source::fixture::tree;
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<(&'static str, usize)> {
        let (_dir, tree) = tree(&[(path, text)]);
        check(&tree).unwrap().iter().map(|finding| (finding.rule, finding.line)).collect()
    }

    #[test]
    fn files_say_what_they_are_for() {
        assert_eq!(rules("a.rs", "//! Pods.\nfn f() {}\n"), []);
        for text in ["fn f() {}\n", "//!\nfn f() {}\n", "\n//! Late.\n", "// Plain.\n", ""] {
            assert_eq!(rules("a.rs", text), [("module-doc", 1)], "{text:?}");
        }
    }

    #[test]
    fn unsafe_has_two_homes() {
        let text = "//! x\nfn f() { m!(unsafe { g() }) }\n// unsafe in words is fine\nconst S: &str = \"unsafe\";\n";
        assert_eq!(rules("agent/src/traffic/x.rs", text), [("unsafe", 2)]);
        assert_eq!(rules("agent/src/sys/x.rs", text), []);
        assert_eq!(rules("ebpf/src/packet.rs", text), []);
        assert_eq!(rules("agent/src/system/x.rs", text), [("unsafe", 2)]);
    }

    #[test]
    fn promises_are_found_as_words() {
        let promise = PROMISES[0];
        assert_eq!(rules("deploy/x.yaml", &format!("a: 1\n# {promise}: b\n")), [("promise", 2)]);
        assert_eq!(rules("deploy/x.yaml", &format!("# {promise}S\n# todo!()\n")), []);
    }
}
