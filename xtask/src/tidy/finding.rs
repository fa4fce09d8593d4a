//! One broken rule at one place.

use std::fmt;
use std::path::PathBuf;

/// Whether a finding fails the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Must be mended.
    Error,
    /// Should be mended before it becomes one.
    Warning,
}

/// What is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    /// Relative to the root of the tree.
    pub(super) path: PathBuf,
    /// From 1; 1 also for what concerns a whole file or folder.
    pub(super) line: usize,
    /// The rule's name.
    pub(super) rule: &'static str,
    /// Whether it fails the check.
    pub(super) severity: Severity,
    /// What is there.
    pub(super) message: String,
    /// What to do.
    pub(super) fix: String,
}

impl Finding {
    /// A finding that fails the check.
    pub(super) fn error(
        path: impl Into<PathBuf>,
        line: usize,
        rule: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { path: path.into(), line, rule, severity: Severity::Error, message: message.into(), fix: fix.into() }
    }

    /// Only a warning.
    pub(super) fn into_warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, severity, message, fix } = self;
        let kind = if *severity == Severity::Warning { "warning: " } else { "" };
        write!(f, "{}:{line}: {kind}{rule}: {message}; fix: {fix}", path.display())
    }
}
