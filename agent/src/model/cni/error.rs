//! Errors as a runtime expects them on standard output.

use serde::Serialize;

use super::version::Version;

/// Why a command failed. The codes are those of the specification; what it leaves to plugins begins at 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The configuration is of a version that the plugin does not speak.
    IncompatibleVersion,
    /// A variable of the environment is missing or wrong.
    InvalidEnvironment,
    /// Reading or writing failed.
    Io,
    /// The configuration is not what it should be in form.
    Decoding,
    /// The configuration is not what it should be in content.
    InvalidConfiguration,
    /// It will work later; the runtime tries again.
    TryAgainLater,
    /// STATUS: the plugin cannot take on containers now.
    NotAvailable,
    /// CHECK: the container is not as ADD left it.
    NotAsLeft,
}

impl Code {
    /// The number.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decoding => 6,
            Self::InvalidConfiguration => 7,
            Self::TryAgainLater => 11,
            Self::NotAvailable => 50,
            Self::NotAsLeft => 100,
        }
    }
}

/// A failed command: what the runtime shows to whoever looks at the pod's events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {details}")]
pub struct CniError {
    /// What kind of failure.
    pub code: Code,
    /// What failed, in a few words.
    pub message: String,
    /// Why, and what to do.
    pub details: String,
}

impl CniError {
    /// A failure.
    pub fn new(code: Code, message: impl Into<String>, details: impl ToString) -> Self {
        Self { code, message: message.into(), details: details.to_string() }
    }

    /// The error object of the specification.
    #[must_use]
    pub fn to_json(&self, version: Version) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Object<'a> {
            cni_version: Version,
            code: u32,
            msg: &'a str,
            details: &'a str,
        }
        let object =
            Object { cni_version: version, code: self.code.number(), msg: &self.message, details: &self.details };
        serde_json::to_string(&object).expect("text and numbers are always JSON")
    }
}
