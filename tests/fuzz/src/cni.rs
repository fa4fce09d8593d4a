//! What a container runtime and the other network plugins of a node tell `sotto cni`: configuration, environment, chain; and what
//! the agent reads from its socket.

use serde_json::{Map, Value, json};
use sotto::model::cni::handover::{Answer, Request};
use sotto::model::cni::invocation::{Command, Container};
use sotto::model::cni::version::Version;
use sotto::model::cni::{chain, config, result};

pub(crate) const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"cniVersion\":\"1.1.0\",",
    "\"0.3.1\"",
    "\"prevResult\":",
    "\"ips\":[",
    "\"address\":\"10.1.0.5/24\",",
    "\"interface\":0",
    "\"interfaces\":[{\"sandbox\":\"/run/netns/x\"}],",
    "\"plugins\":[",
    "{\"type\":\"sotto-cni\"}",
    "\"type\":\"bridge\"",
    "\"socket\":\"/run/sotto/cni.sock\",",
    "\"timeoutSeconds\":",
    "\"excludeNamespaces\":[",
    "\"cni.dev/valid-attachments\":[",
    "\"containerID\":\"a\"",
    "\"command\":\"add\",",
    "\"answer\":\"failed\",",
    "K8S_POD_NAMESPACE=",
    "K8S_POD_NAME=",
    "K8S_POD_UID=",
    ";",
    "18446744073709551616",
    "\\u0000",
    "::ffff:10.0.0.1/128",
];

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"cniVersion":"1.1.0","name":"n","type":"sotto-cni","socket":"/run/sotto/cni.sock","timeoutSeconds":9,"excludeNamespaces":["kube-system"],"prevResult":{"interfaces":[{"name":"eth0","sandbox":"/run/netns/x"}],"ips":[{"address":"10.1.0.5/24","interface":0},{"address":"fd00::5/64"}]},"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]}"#,
        r#"{"name":"pods","cniVersion":"1.0.0","plugins":[{"type":"bridge","x":1},{"type":"portmap"}]}"#,
        r#"{"name":"pods","cniVersion":"0.3.1","type":"bridge"}"#,
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u",
        r#"{"command":"add","pod":{"namespace":"demo","name":"web","uid":"u"},"container":"c","netns":"/run/netns/x","addresses":["10.1.0.5"]}"#,
        r#"{"command":"gc","containers":["a","b"]}"#,
        r#"{"answer":"failed","message":"no"}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub(crate) fn cni(data: &[u8]) {
    configuration(data);
    environment(data);
    if let Ok(text) = std::str::from_utf8(data) {
        chained(text);
    }
    again::<Request>(data);
    again::<Answer>(data);
}

fn configuration(data: &[u8]) {
    let version = config::version_of(data);
    assert!(Version::ALL.contains(&version));
    match config::parse(data) {
        Ok(config) => {
            assert_eq!(config.version, version, "errors are answered in the version of the configuration");
            assert!(config.socket.is_absolute() && (1..=600).contains(&config.timeout.as_secs()));
            if let Some(Ok(addresses)) = config.previous.as_ref().map(result::addresses) {
                assert!((1..=64).contains(&addresses.len()));
            }
        }
        Err(error) => {
            let object: Value = serde_json::from_str(&error.to_json(version)).expect("an error is JSON");
            assert_eq!(object["cniVersion"], version.as_str());
            assert!(error.to_string().len() < 1000, "what runtimes log stays short");
        }
    }
}

/// One text as every variable of the environment.
fn environment(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    assert!(Command::parse(&text).map_or_else(|error| error.to_string().len() < 1000, |_| text.len() < 10));
    for (id, arguments) in [(text.as_str(), ""), ("c1", text.as_str())] {
        let variable = |name: &str| match name {
            "CNI_CONTAINERID" => Some(id.to_owned()),
            "CNI_ARGS" => Some(arguments.to_owned()),
            _ => None,
        };
        if let Ok(container) = Container::parse(variable) {
            assert!(!container.id.contains('/') && container.id.len() <= 256);
            assert!(container.pod.is_none_or(|pod| !pod.namespace.is_empty() && !pod.name.is_empty()));
        }
    }
}

/// Joining a chain twice is joining it once, and leaving it takes back what joining did.
fn chained(text: &str) {
    let own = Map::from_iter([("socket".to_owned(), json!("/run/sotto/cni.sock"))]);
    let Ok(Some(joined)) = chain::extended(text, &own) else { return };
    assert_eq!(chain::extended(&joined, &own), Ok(None));
    let left = chain::reduced(&joined).expect("it is a list").expect("the plugin is in it");
    assert_eq!(chain::reduced(&left), Ok(None));
    let read = |text: &str| serde_json::from_str::<Value>(text).expect("it is JSON");
    let before = read(text);
    let others = |list: &Value| {
        list["plugins"]
            .as_array()
            .map_or(0, |plugins| plugins.iter().filter(|plugin| plugin["type"] != chain::PLUGIN).count())
    };
    if before.get("plugins").is_some() {
        assert_eq!(others(&read(&joined)), others(&before), "no other plugin is lost");
    }
}

fn again<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(data) {
        let text = serde_json::to_vec(&message).expect("a message is JSON");
        assert_eq!(serde_json::from_slice::<T>(&text).ok(), Some(message));
    }
}
