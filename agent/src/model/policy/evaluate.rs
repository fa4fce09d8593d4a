//! The decision about one connection.

use std::fmt;

use super::rule::Request;
use super::workload::WorkloadPolicies;
use crate::model::workload::ObjectName;

/// Whether a connection is let in, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why.
    pub reason: Reason,
    /// The policy that decided, if one did.
    pub decided_by: Option<DecidedBy>,
}

/// The policy behind a [`Verdict`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidedBy {
    /// Namespace and name.
    pub policy: ObjectName,
    /// The rule of an AuthorizationPolicy, counted from 0; none where it was that no rule matched.
    pub rule: Option<usize>,
}

/// Why a connection is let in or not. [`Reason::code`] is stable: logs and metrics carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No ALLOW policy applies to the workload.
    NoAllowPolicy,
    /// A rule of an ALLOW policy matched.
    AllowRule,
    /// A PeerAuthentication asks for mutual TLS, and the client has no identity.
    StrictMtls,
    /// A rule of a DENY policy matched.
    DenyRule,
    /// ALLOW policies apply, and no rule of any matched.
    NoAllowRule,
    /// A policy is wrong, and what it may have been meant to keep out is kept out.
    InvalidPolicy,
    /// The workload is not known any more, and so neither are its policies.
    UnknownWorkload,
}

/// Decides about a connection to a workload with these policies.
#[must_use]
pub fn evaluate(policies: &WorkloadPolicies, request: &Request) -> Verdict {
    let authentication = policies.strictness.of_port(request.port());
    if authentication.is_strict() && request.identity().is_none() {
        let decided_by = authentication.by.as_ref().map(|policy| DecidedBy { policy: policy.clone(), rule: None });
        return Verdict { reason: Reason::StrictMtls, decided_by };
    }
    for policy in &policies.deny {
        if let Some(rule) = policy.deciding_rule(request) {
            let (reason, rule) =
                if policy.is_closed { (Reason::InvalidPolicy, None) } else { (Reason::DenyRule, Some(rule)) };
            return Verdict { reason, decided_by: Some(DecidedBy { policy: policy.name.clone(), rule }) };
        }
    }
    let Some(first) = policies.allow.first() else {
        return Verdict { reason: Reason::NoAllowPolicy, decided_by: None };
    };
    for policy in &policies.allow {
        if let Some(rule) = policy.deciding_rule(request) {
            let decided_by = Some(DecidedBy { policy: policy.name.clone(), rule: Some(rule) });
            return Verdict { reason: Reason::AllowRule, decided_by };
        }
    }
    // An operator has to look at a policy that is wrong first.
    let closed = policies.allow.iter().find(|policy| policy.is_closed);
    let reason = if closed.is_some() { Reason::InvalidPolicy } else { Reason::NoAllowRule };
    let policy = closed.unwrap_or(first).name.clone();
    Verdict { reason, decided_by: Some(DecidedBy { policy, rule: None }) }
}

impl Verdict {
    /// The verdict about a connection to a workload that is not known any more.
    pub const UNKNOWN_WORKLOAD: Self = Self { reason: Reason::UnknownWorkload, decided_by: None };

    /// Whether the connection is let in.
    #[must_use]
    pub fn allowed(&self) -> bool {
        matches!(self.reason, Reason::NoAllowPolicy | Reason::AllowRule)
    }

    /// The deciding policy.
    #[must_use]
    pub fn policy(&self) -> Option<&ObjectName> {
        self.decided_by.as_ref().map(|by| &by.policy)
    }
}

impl Reason {
    /// The reason in one word, for logs and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NoAllowPolicy => "no_allow_policy",
            Self::AllowRule => "allow_rule",
            Self::StrictMtls => "strict_mtls",
            Self::DenyRule => "deny_rule",
            Self::NoAllowRule => "no_allow_rule",
            Self::InvalidPolicy => "invalid_policy",
            Self::UnknownWorkload => "unknown_workload",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NoAllowPolicy => "no ALLOW policy applies",
            Self::AllowRule => "an ALLOW rule matches",
            Self::StrictMtls => "mutual TLS is STRICT and the client has no identity",
            Self::DenyRule => "a DENY rule matches",
            Self::NoAllowRule => "no rule of the ALLOW policies matches",
            Self::InvalidPolicy => "a policy is invalid and fails closed",
            Self::UnknownWorkload => "the pod is no longer known, and so neither are its policies",
        }
    }
}

/// `denied by demo/only-web, rule 0: a DENY rule matches`
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allowed() { "allowed" } else { "denied" })?;
        if let Some(by) = &self.decided_by {
            write!(f, " by {}", by.policy)?;
            if let Some(rule) = by.rule {
                write!(f, ", rule {rule}")?;
            }
        }
        write!(f, ": {}", self.reason.words())
    }
}
