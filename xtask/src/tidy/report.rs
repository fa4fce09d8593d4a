//! Runs every rule over the tree and prints what it found.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

use super::finding::{Finding, Severity};
use super::source::Tree;
use super::{budgets, documents, hygiene, layers};
use crate::workspace::Workspace;

/// The command.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    check(workspace).map(|()| ExitCode::SUCCESS)
}

/// Prints the findings; an error says how many must be mended.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let (findings, files) = findings(&workspace.root)?;
    findings.iter().for_each(|finding| println!("{finding}"));
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    println!("tidy: {files} Rust files, {errors} errors, {} warnings", findings.len() - errors);
    if errors > 0 { bail!("tidy: {errors} findings to mend") } else { Ok(()) }
}

/// Every finding, by place, and how many Rust files were read.
fn findings(root: &Path) -> Result<(Vec<Finding>, usize)> {
    let tree = Tree::read(root)?;
    let mut findings = tree.unreadable.clone();
    findings.extend(layers::check(&tree));
    findings.extend(budgets::check(&tree));
    findings.extend(hygiene::check(&tree)?);
    findings.extend(documents::check(&tree)?);
    findings.sort();
    findings.dedup();
    Ok((findings, tree.sources.len()))
}

#[cfg(test)]
mod tests {
    use super::super::source::fixture::tree;
    use super::*;

    #[test]
    fn rules_are_applied_together_and_sorted() {
        let files = [
            ("agent/src/model/a.rs", "use crate::roles::X;\n"),
            ("agent/src/sys/b.rs", "//! Sockets.\n"),
            ("xtask/src/c.rs", "//! x\nfn f() { unsafe { g() } }\n"),
        ];
        let (dir, _) = tree(&files);
        let (findings, read) = findings(dir.path()).unwrap();
        let rules: Vec<_> = findings.iter().map(|finding| (finding.path.to_str().unwrap(), finding.rule)).collect();
        let expected =
            [("agent/src/model/a.rs", "layers"), ("agent/src/model/a.rs", "module-doc"), ("xtask/src/c.rs", "unsafe")];
        assert_eq!((rules.as_slice(), read), (expected.as_slice(), 3));
    }
}
