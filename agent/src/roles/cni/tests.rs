//! The plugin against an agent that answers as the test says.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use super::plugin::execute;
use crate::model::cni::error::{CniError, Code};
use crate::model::cni::handover::{Answer, Request};

fn config(socket: &Path) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "pods", "type": "sotto-cni", "socket": socket, "timeoutSeconds": 5,
        "excludeNamespaces": ["kube-system"],
        "prevResult": {
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "eth0", "sandbox": "/run/netns/x"}],
            "ips": [{"interface": 0, "address": "10.1.0.5/24"}],
            "dns": {},
        },
    })
}

fn call(command: &str, namespace: &str, config: &Value) -> Result<String, CniError> {
    let arguments = format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME=web;K8S_POD_UID=u");
    let variable = |name: &str| {
        let value = match name {
            "CNI_COMMAND" => command,
            "CNI_CONTAINERID" => "c1",
            "CNI_NETNS" => "/run/netns/x",
            "CNI_ARGS" => &arguments,
            _ => return None,
        };
        Some(value.to_owned())
    };
    execute(variable, config.to_string().as_bytes())
}

/// An agent that answers one request, and what it was asked.
fn agent(socket: &Path, answer: &Answer) -> JoinHandle<Request> {
    let listener = UnixListener::bind(socket).unwrap();
    let answer = serde_json::to_vec(answer).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        stream.write_all(&answer).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
        serde_json::from_slice(&request).unwrap()
    })
}

#[test]
fn add_passes_the_result_on_once_the_agent_has_the_pod() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("cni.sock");
    let asked = agent(&socket, &Answer::Done { enrolled: true });
    let config = config(&socket);
    let printed = call("ADD", "demo", &config).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), config["prevResult"]);
    let Request::Add { pod, container, netns, addresses } = asked.join().unwrap() else { panic!("not ADD") };
    assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_deref()), ("demo", "web", Some("u")));
    assert_eq!((container.as_str(), netns.to_str()), ("c1", Some("/run/netns/x")));
    assert_eq!(addresses, ["10.1.0.5".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn without_an_agent_only_excluded_namespaces_come_up_and_everything_goes() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory.path().join("cni.sock"));
    let error = call("ADD", "demo", &config).unwrap_err();
    assert_eq!(error.code, Code::TryAgainLater);
    assert!(error.to_string().contains("pod demo/web"), "{error}");
    assert!(error.to_string().contains("is the sotto agent running"), "{error}");
    assert_eq!(call("STATUS", "demo", &config).unwrap_err().code, Code::NotAvailable);
    assert_eq!(call("CHECK", "demo", &config).unwrap_err().code, Code::NotAsLeft);
    call("ADD", "kube-system", &config).unwrap();
    call("CHECK", "kube-system", &config).unwrap();
    assert_eq!(call("DEL", "demo", &config).unwrap(), "");
    assert_eq!(call("GC", "demo", &config).unwrap(), "");
}

#[test]
fn what_the_agent_refuses_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("cni.sock");
    let asked = agent(&socket, &Answer::Failed { message: "no certificate yet".to_owned() });
    let error = call("ADD", "demo", &config(&socket)).unwrap_err();
    asked.join().unwrap();
    assert_eq!((error.code, error.details.as_str()), (Code::TryAgainLater, "no certificate yet"));
}

#[test]
fn an_agent_that_ends_while_it_is_asked_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("cni.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let ends = thread::spawn(move || drop(listener.accept()));
    assert_eq!(call("ADD", "demo", &config(&socket)).unwrap_err().code, Code::TryAgainLater);
    ends.join().unwrap();
}

#[test]
fn the_first_of_a_chain_is_refused() {
    let mut config = config(Path::new("/nowhere"));
    config.as_object_mut().unwrap().remove("prevResult");
    for command in ["ADD", "CHECK"] {
        let error = call(command, "demo", &config).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfiguration, "{error}");
    }
}

#[test]
fn versions_are_listed_whatever_the_configuration_says() {
    let printed = call("VERSION", "demo", &json!({"cniVersion": "0.4.0"})).unwrap();
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["cniVersion"], "0.4.0");
    assert_eq!(printed["supportedVersions"], json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
}
