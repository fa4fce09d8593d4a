//! `sotto cni`: the chained CNI plugin. A runtime starts it for every container; it holds ADD until the node's agent has the pod.
//!
//! It fails closed: while the agent is away no pod comes up, except in the namespaces that its configuration excludes; the
//! runtime tries again. DEL always succeeds, as the specification asks for.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::model::cni::config::{self, Config, LONGEST_CONFIG};
use crate::model::cni::error::{CniError, Code};
use crate::model::cni::handover::{Answer, LONGEST_MESSAGE, PodReference, Request};
use crate::model::cni::invocation::{Command, Container};
use crate::model::cni::result;
use crate::model::cni::version::Version;

/// Runs one command, from the environment and standard input to standard output.
#[must_use]
pub fn run() -> ExitCode {
    let mut input = Vec::new();
    let read = io::stdin().take(LONGEST_CONFIG as u64 + 1).read_to_end(&mut input);
    #[expect(clippy::disallowed_methods, reason = "the specification's parameters come in the environment")]
    let variable = |name: &str| std::env::var(name).ok();
    let outcome = match read {
        Ok(_) => execute(variable, &input),
        Err(error) => Err(CniError::new(Code::Io, "standard input cannot be read", error)),
    };
    let (text, code) = match outcome {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => (error.to_json(config::version_of(&input)), ExitCode::FAILURE),
    };
    // A runtime that does not listen has given up.
    let _given_up = io::stdout().write_all(text.as_bytes());
    code
}

/// One command: what is written on success.
pub(super) fn execute(variable: impl Fn(&str) -> Option<String>, input: &[u8]) -> Result<String, CniError> {
    let missing = || CniError::new(Code::InvalidEnvironment, "CNI_COMMAND is wrong", "it is missing");
    let command = Command::parse(&variable("CNI_COMMAND").ok_or_else(missing)?)?;
    if command == Command::Version {
        let versions = Version::ALL.map(Version::as_str);
        return Ok(json!({"cniVersion": config::version_of(input), "supportedVersions": versions}).to_string());
    }
    let config = config::parse(input)?;
    match command {
        Command::Add => add(&config, Container::parse(variable)?),
        Command::Check => check(&config, Container::parse(variable)?).map(|()| String::new()),
        Command::Del => {
            // The agent notices by itself that a namespace is gone; this only tells it sooner.
            let _away = ask(&config, &Request::Del { container: Container::parse(variable)?.id });
            Ok(String::new())
        }
        Command::Gc => {
            let _away = ask(&config, &Request::Gc { containers: config.valid_containers.clone() });
            Ok(String::new())
        }
        Command::Status => status(&config).map(|()| String::new()),
        Command::Version => unreachable!("answered above"),
    }
}

fn add(config: &Config, container: Container) -> Result<String, CniError> {
    let previous = previous(config)?;
    if let Some(pod) = concerned(config, container.pod) {
        let named = format!("pod {}/{}", pod.namespace, pod.name);
        let missing = || CniError::new(Code::InvalidEnvironment, "CNI_NETNS is wrong", "it is missing");
        let netns = container.netns.ok_or_else(missing)?;
        let addresses = result::addresses(previous)?;
        let request = Request::Add { pod, container: container.id, netns, addresses };
        settle(ask(config, &request), Code::TryAgainLater, &format!("{named} cannot join the mesh yet"))?;
    }
    // The plugin changes nothing about the container, so what came from the one before goes on.
    Ok(previous.to_string())
}

fn check(config: &Config, container: Container) -> Result<(), CniError> {
    previous(config)?;
    let Some(pod) = concerned(config, container.pod) else { return Ok(()) };
    let named = format!("pod {}/{} is not as the mesh should have it", pod.namespace, pod.name);
    settle(ask(config, &Request::Check { pod, container: container.id }), Code::NotAsLeft, &named)
}

fn status(config: &Config) -> Result<(), CniError> {
    settle(ask(config, &Request::Status), Code::NotAvailable, "the node's agent takes on no pods now")
}

fn previous(config: &Config) -> Result<&Value, CniError> {
    let unchained = "sotto-cni gives containers no addresses: it has to come after a plugin that does";
    config
        .previous
        .as_ref()
        .ok_or_else(|| CniError::new(Code::InvalidConfiguration, "prevResult is missing", unchained))
}

/// The pod, if the mesh may have to do with it.
fn concerned(config: &Config, pod: Option<PodReference>) -> Option<PodReference> {
    pod.filter(|pod| !config.exclude_namespaces.contains(&pod.namespace))
}

fn settle(answer: io::Result<Answer>, code: Code, message: &str) -> Result<(), CniError> {
    match answer {
        Ok(Answer::Done { .. }) => Ok(()),
        Ok(Answer::Failed { message: details }) => Err(CniError::new(code, message, details)),
        Err(error) => Err(CniError::new(code, message, error)),
    }
}

fn ask(config: &Config, request: &Request) -> io::Result<Answer> {
    let socket = config.socket.display();
    let explain = |error: io::Error| {
        let is = |kinds: &[io::ErrorKind]| kinds.contains(&error.kind());
        let what = if is(&[io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused]) {
            "is the sotto agent running on this node?".to_owned()
        } else if is(&[io::ErrorKind::WouldBlock]) {
            format!("the agent gave no answer within {:?}", config.timeout)
        } else {
            error.to_string()
        };
        io::Error::new(error.kind(), format!("asking the agent at {socket}: {what}"))
    };
    exchange(config, request).map_err(explain)
}

fn exchange(config: &Config, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(&config.socket)?;
    stream.set_read_timeout(Some(config.timeout))?;
    stream.set_write_timeout(Some(config.timeout))?;
    stream.write_all(&serde_json::to_vec(request)?)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.take(LONGEST_MESSAGE as u64).read_to_end(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the agent ended while it was asked"));
    }
    Ok(serde_json::from_slice(&answer)?)
}
