//! The configuration that a runtime hands to the plugin on standard input.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::error::{CniError, Code};
use super::version::Version;

/// The most that is read of a configuration, in bytes. What other plugins put into `prevResult` is a few hundred.
pub const LONGEST_CONFIG: usize = 1024 * 1024;

/// Where the agent listens, unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/sotto/cni.sock";

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// What the plugin is to do with containers, and what the plugins before it have done.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The version of the specification that the runtime speaks.
    pub version: Version,
    /// The agent's socket.
    pub socket: PathBuf,
    /// How long the agent may take to enrol a pod.
    pub timeout: Duration,
    /// Namespaces whose pods are none of the mesh's business: they come up whether there is an agent or not.
    pub exclude_namespaces: Vec<String>,
    /// The result of the plugins before this one.
    pub previous: Option<Value>,
    /// GC: the containers that still are.
    pub valid_containers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    cni_version: Option<String>,
    socket: Option<PathBuf>,
    timeout_seconds: Option<u64>,
    #[serde(default)]
    exclude_namespaces: Vec<String>,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments", default)]
    valid_attachments: Vec<Attachment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attachment {
    #[serde(rename = "containerID")]
    container_id: String,
}

/// Reads a configuration.
///
/// # Errors
/// When it is not JSON, is too long, is of an unknown version, or a field has a wrong value.
pub fn parse(bytes: &[u8]) -> Result<Config, CniError> {
    let wrong =
        |details: String| CniError::new(Code::InvalidConfiguration, "the plugin's configuration is wrong", details);
    if bytes.len() > LONGEST_CONFIG {
        return Err(wrong(format!("it has more than {LONGEST_CONFIG} bytes")));
    }
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|error| CniError::new(Code::Decoding, "the plugin's configuration cannot be read", error))?;
    let version = version(raw.cni_version.as_deref())?;
    let socket = raw.socket.unwrap_or_else(|| DEFAULT_SOCKET.into());
    if !socket.is_absolute() {
        return Err(wrong(format!("socket: {} is not an absolute path", shown(&socket))));
    }
    let timeout = raw.timeout_seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    if timeout.is_zero() || timeout > Duration::from_secs(600) {
        return Err(wrong("timeoutSeconds: must be 1 to 600".to_owned()));
    }
    Ok(Config {
        version,
        socket,
        timeout,
        exclude_namespaces: raw.exclude_namespaces,
        previous: raw.prev_result,
        valid_containers: raw.valid_attachments.into_iter().map(|attachment| attachment.container_id).collect(),
    })
}

/// The version that a configuration names, for answering even when the rest of it is wrong.
#[must_use]
pub fn version_of(bytes: &[u8]) -> Version {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Versioned {
        cni_version: String,
    }
    let named = serde_json::from_slice::<Versioned>(bytes).ok();
    named.and_then(|named| Version::parse(&named.cni_version)).unwrap_or_default()
}

fn version(named: Option<&str>) -> Result<Version, CniError> {
    // The specification's meaning of a configuration without a version is 0.1.0, which knows no chains.
    let named = named.unwrap_or("0.1.0");
    Version::parse(named).ok_or_else(|| {
        let known = Version::ALL.map(Version::as_str).join(", ");
        let named: String = named.chars().take(32).collect();
        CniError::new(
            Code::IncompatibleVersion,
            format!("cniVersion {named:?} is not supported"),
            format!("supported are {known}"),
        )
    })
}

fn shown(path: &Path) -> String {
    format!("{:?}", path.display().to_string().chars().take(200).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_has_defaults() {
        let config = parse(br#"{"cniVersion":"0.4.0","name":"n","type":"sotto-cni"}"#).unwrap();
        assert_eq!((config.version, config.socket), (Version::V0_4_0, DEFAULT_SOCKET.into()));
        assert_eq!((config.timeout, config.previous), (DEFAULT_TIMEOUT, None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, code, named) in [
            ("{", Code::Decoding, "EOF"),
            (r#"{"cniVersion":"0.2.0"}"#, Code::IncompatibleVersion, "0.3.1, 0.4.0, 1.0.0, 1.1.0"),
            ("{}", Code::IncompatibleVersion, "0.1.0"),
            (r#"{"cniVersion":"1.0.0","socket":"x"}"#, Code::InvalidConfiguration, "socket"),
            (r#"{"cniVersion":"1.0.0","timeoutSeconds":0}"#, Code::InvalidConfiguration, "timeoutSeconds"),
            (r#"{"cniVersion":"1.0.0","excludeNamespaces":3}"#, Code::Decoding, "sequence"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.code, code, "{text}");
            assert!(error.to_string().contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn valid_attachments_are_read() {
        let text = r#"{"cniVersion":"1.1.0","cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]}"#;
        assert_eq!(parse(text.as_bytes()).unwrap().valid_containers, ["a"]);
    }

    #[test]
    fn an_answer_to_nonsense_has_a_version() {
        assert_eq!(version_of(b"nonsense"), Version::V1_1_0);
        assert_eq!(version_of(br#"{"cniVersion":"0.3.1","prevResult":1}"#), Version::V0_3_1);
    }
}
