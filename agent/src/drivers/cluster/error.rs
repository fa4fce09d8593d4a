//! What an API server can answer instead of what was asked for.

use std::error::Error;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

/// The longest message of an API server that is passed on, in characters.
const MAX_MESSAGE: usize = 300;

/// Why a request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApiError {
    /// No answer: no connection, no TLS, or an end in the middle.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// No answer within the time.
    #[error("the API server has not answered {what} within {limit:?}")]
    Silent {
        /// What was asked.
        what: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The version that was to be continued from is no longer known: everything has to be listed again.
    #[error("the API server no longer knows the version to continue from: {0}")]
    Gone(String),
    /// A status that is no success.
    #[error("the API server answers {what} with {code}: {message}{}", hint(*.code))]
    Refused {
        /// What was asked.
        what: String,
        /// The HTTP status.
        code: u16,
        /// The server's own words.
        message: String,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// An answer that does not have the form that Kubernetes gives it.
    #[error("the API server's answer to {what} cannot be used: {why}")]
    BadAnswer {
        /// What was asked.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// The node's kubelet cannot connect to a port.
    #[error("the kubelet cannot connect to {what}: {why}")]
    Forward {
        /// The port and the pod.
        what: String,
        /// The kubelet's own words.
        why: String,
    },
}

/// The part of a `Status` object that is used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) message: Option<String>,
    pub(super) code: Option<u16>,
}

impl ApiError {
    /// The answer `code` with a body that is most often a `Status` object.
    pub(super) fn status(what: &str, code: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        let status: Status = serde_json::from_slice(body).unwrap_or_default();
        let message = status.message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
        let message = shorten(&message);
        match code {
            410 => Self::Gone(message),
            _ => Self::Refused { what: what.to_owned(), code, message, retry_after },
        }
    }

    pub(super) fn unreachable(error: &(dyn Error + 'static)) -> Self {
        Self::Unreachable(chain(error))
    }

    /// What kube makes of an answer.
    pub(super) fn of_kube(what: &str, error: &kube::Error) -> Self {
        let kube::Error::Api(status) = error else { return Self::unreachable(error) };
        let message = shorten(&status.message);
        Self::Refused { what: what.to_owned(), code: status.code, message, retry_after: None }
    }

    pub(super) fn forward(what: &str, why: &str) -> Self {
        Self::Forward { what: what.to_owned(), why: innermost(why.trim()) }
    }

    pub(super) fn bad(what: &str, why: impl ToString) -> Self {
        Self::BadAnswer { what: what.to_owned(), why: shorten(&why.to_string()) }
    }

    /// The HTTP status of the answer, if there was one.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Gone(_) => Some(410),
            Self::Unreachable(_) | Self::Silent { .. } | Self::BadAnswer { .. } | Self::Forward { .. } => None,
        }
    }

    /// How long the server asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Gone(_)
            | Self::Unreachable(_)
            | Self::Silent { .. }
            | Self::BadAnswer { .. }
            | Self::Forward { .. } => None,
        }
    }
}

/// What an operator can do about it.
fn hint(code: u16) -> &'static str {
    match code {
        401 => "; is the service account's token mounted, and not older than its account?",
        403 => "; these credentials lack the right (an agent's are in its ClusterRole)",
        _ => "",
    }
}

/// An error with its causes on one line: kube's own words stop at "service error".
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    shorten(&text)
}

/// A kubelet's words come through three programs, each of which puts its own in front: the cause is at the end.
fn innermost(text: &str) -> String {
    const REFUSED: &str = "connection refused";
    if text.contains(REFUSED) {
        return format!("{REFUSED}; is this the port of the agents' --admin-addr?");
    }
    let start = text.char_indices().rev().nth(119).map_or(0, |(at, _)| at);
    let mark = if start > 0 { "…" } else { "" };
    shorten(&format!("{mark}{}", &text[start..]))
}

/// One line of bounded length.
fn shorten(text: &str) -> String {
    let mut line: String = text.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() < text.len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_words_reach_the_operator() {
        let body = br#"{"kind":"Status","message":"pods is forbidden: User \"x\" cannot list","code":403}"#;
        let error = ApiError::status("LIST pods", 403, body, None);
        assert_eq!(
            error.to_string(),
            "the API server answers LIST pods with 403: pods is forbidden: User \"x\" cannot list; these credentials lack the right (an agent's are in its ClusterRole)"
        );
        assert_eq!(ApiError::status("WATCH pods", 410, b"{}", None).code(), Some(410));
    }

    #[test]
    fn of_a_kubelets_words_the_cause_is_told() {
        let long = format!("error forwarding port 9 to pod {}, uid : failed: dial tcp4 127.0.0.1:9: ", "0".repeat(300));
        let told = |text: &str| ApiError::forward("port 9 of s/p", text).to_string();
        let start = "the kubelet cannot connect to port 9 of s/p: ";
        let refused = told(&format!("{long}connect: connection refused IPv6 dial tcp6: address localhost"));
        assert_eq!(refused, format!("{start}connection refused; is this the port of the agents' --admin-addr?"));
        assert_eq!(told("no such pod\n"), format!("{start}no such pod"));
        let other = told(&format!("{long}i/o\ntimeout ü"));
        assert!(other.starts_with(&format!("{start}…")) && other.ends_with("i/o timeout ü"), "{other}");
        assert_eq!(other.chars().count(), start.chars().count() + 121);
    }

    #[test]
    fn a_hostile_body_cannot_flood_the_log_or_break_its_lines() {
        let error = ApiError::status("LIST pods", 500, "<h1>\n\u{1b}".repeat(10_000).as_bytes(), None);
        let text = error.to_string();
        assert!(text.len() < 500 && !text.contains(['\n', '\u{1b}']), "{text}");
    }
}
