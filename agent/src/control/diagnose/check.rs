//! Checks of a machine and of a running agent: what was looked at, how it is, what to do about it.

use serde::{Deserialize, Serialize};

/// How one check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Not looked at, and why is said.
    Skipped,
    /// Works, and is worth a look.
    Warning,
    /// sotto cannot work this way.
    Failed,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub outcome: Outcome,
    /// What was seen.
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: &str, what: impl Into<String>) -> Self {
        Self { check: check.to_owned(), outcome: Outcome::Ok, what: what.into(), fix: None }
    }

    /// Not looked at.
    pub fn skipped(check: &str, why: impl Into<String>) -> Self {
        Self { check: check.to_owned(), outcome: Outcome::Skipped, what: why.into(), fix: None }
    }

    /// Works, and is worth a look.
    pub fn warning(check: &str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check: check.to_owned(), outcome: Outcome::Warning, what: what.into(), fix: Some(fix.into()) }
    }

    /// Does not work.
    pub fn failed(check: &str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check: check.to_owned(), outcome: Outcome::Failed, what: what.into(), fix: Some(fix.into()) }
    }
}

/// Whether sotto can work.
#[must_use]
pub fn passed(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.outcome != Outcome::Failed)
}
