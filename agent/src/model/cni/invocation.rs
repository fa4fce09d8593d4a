//! The environment in which a runtime starts a plugin.

use std::path::PathBuf;

use super::error::{CniError, Code};
use super::handover::PodReference;

/// What the runtime wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A container comes.
    Add,
    /// A container goes, or has gone.
    Del,
    /// Is a container as ADD left it?
    Check,
    /// Only these containers are still there.
    Gc,
    /// Could a container come now?
    Status,
    /// Which versions does the plugin speak?
    Version,
}

impl Command {
    /// The command of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn parse(name: &str) -> Result<Self, CniError> {
        Ok(match name {
            "ADD" => Self::Add,
            "DEL" => Self::Del,
            "CHECK" => Self::Check,
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            "VERSION" => Self::Version,
            _ => {
                let name: String = name.chars().take(32).collect();
                let details = format!("{name:?} is none of ADD, DEL, CHECK, GC, STATUS, VERSION");
                return Err(CniError::new(Code::InvalidEnvironment, "CNI_COMMAND is wrong", details));
            }
        })
    }
}

/// One container, as the environment names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The runtime's name of it.
    pub id: String,
    /// Its network namespace; DEL may come when it is gone.
    pub netns: Option<PathBuf>,
    /// The pod that it is the sandbox of; none when the runtime does not work for Kubernetes.
    pub pod: Option<PodReference>,
}

impl Container {
    /// Reads `CNI_CONTAINERID`, `CNI_NETNS` and `CNI_ARGS`.
    ///
    /// # Errors
    /// When one is missing or not what the specification asks for.
    pub fn parse(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        let wrong =
            |name: &str, details: &str| CniError::new(Code::InvalidEnvironment, format!("{name} is wrong"), details);
        let id = variable("CNI_CONTAINERID").filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| wrong("CNI_CONTAINERID", "it is missing"))?;
        if !is_container_id(&id) {
            return Err(wrong(
                "CNI_CONTAINERID",
                "it must be a letter or digit, then letters, digits, '_', '.' or '-'",
            ));
        }
        let netns = variable("CNI_NETNS").filter(|path| !path.is_empty()).map(PathBuf::from);
        if netns.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(wrong("CNI_NETNS", "it must be an absolute path"));
        }
        let pod = pod(&variable("CNI_ARGS").unwrap_or_default());
        Ok(Self { id, netns, pod })
    }
}

fn is_container_id(id: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    id.len() <= 256 && id.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) && id.bytes().all(rest)
}

/// The pod in `K8S_POD_NAMESPACE=…;K8S_POD_NAME=…;K8S_POD_UID=…`. A runtime older than 2022 may leave out the UID.
fn pod(arguments: &str) -> Option<PodReference> {
    let value = |wanted: &str| {
        let pairs = arguments.split(';').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == wanted).map(|(_, value)| value.to_owned()).find(|value| !value.is_empty())
    };
    Some(PodReference {
        namespace: value("K8S_POD_NAMESPACE")?,
        name: value("K8S_POD_NAME")?,
        uid: value("K8S_POD_UID"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(variables: &[(&str, &str)]) -> Result<Container, CniError> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Container::parse(find)
    }

    #[test]
    fn the_environment_names_container_namespace_and_pod() {
        let arguments =
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u";
        let found =
            container(&[("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/run/netns/x"), ("CNI_ARGS", arguments)]).unwrap();
        assert_eq!((found.id.as_str(), found.netns), ("c1", Some("/run/netns/x".into())));
        let pod = found.pod.unwrap();
        assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_deref()), ("demo", "web-0", Some("u")));
    }

    #[test]
    fn a_container_need_not_be_a_pods_nor_have_a_namespace_any_more() {
        let found = container(&[("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "")]).unwrap();
        assert_eq!((found.netns, found.pod), (None, None));
        assert_eq!(container(&[("CNI_CONTAINERID", "c1"), ("CNI_ARGS", "K8S_POD_NAME=;=;;")]).unwrap().pod, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for variables in [
            &[][..],
            &[("CNI_CONTAINERID", "")],
            &[("CNI_CONTAINERID", "../x")],
            &[("CNI_CONTAINERID", "a b")],
            &[("CNI_CONTAINERID", "a"), ("CNI_NETNS", "x")],
        ] {
            let error = container(variables).unwrap_err();
            assert_eq!(error.code, Code::InvalidEnvironment);
            assert!(error.message.starts_with("CNI_"), "{error}");
        }
        assert!(Command::parse("NONE").unwrap_err().to_string().contains("\"NONE\""));
    }
}
