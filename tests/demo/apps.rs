//! The applications in the demo's pods: ordinary processes that know nothing of the mesh.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use harness::{DEADLINE, Mesh, Pod, Process, eventually};

/// The port that the servers listen on.
pub(crate) const PORT: u16 = 8080;

/// A client: a process that says what it is told to, on new connections and on one that it keeps open.
pub(crate) struct Client(Arc<Process>);

/// Starts a server process in a pod and waits until it serves.
pub(crate) fn start_server(mesh: &Mesh, pod: &Pod) -> Result<Arc<Process>> {
    let process = mesh.start_process(pod, program()?.args(["serve", &PORT.to_string()]));
    eventually(DEADLINE, "the server serves", || process.log().contains("serving").then_some(()));
    Ok(process)
}

/// Starts a client process in a pod that talks to `server`.
pub(crate) fn start_client(mesh: &Mesh, pod: &Pod, server: &Pod) -> Result<Client> {
    Ok(Client(mesh.start_process(pod, program()?.args(["call", &server.addr(PORT).to_string()]))))
}

impl Client {
    /// Says something on a new connection; returns the answer.
    pub(crate) fn say(&self, text: &str) -> Result<String> {
        self.command(&format!("new {text}"))
    }

    /// Says something on the connection that stays open; returns the answer.
    pub(crate) fn keep_saying(&self, text: &str) -> Result<String> {
        self.command(&format!("keep {text}"))
    }

    pub(crate) fn process(&self) -> &Process {
        &self.0
    }

    fn command(&self, command: &str) -> Result<String> {
        let answered = self.0.log().lines().count();
        self.0.send_line(command);
        let answer = eventually(DEADLINE * 2, "the client has its answer", || {
            let log = self.0.log();
            log.ends_with('\n').then(|| log.lines().nth(answered).map(str::to_owned)).flatten()
        });
        if let Some(error) = answer.strip_prefix("error: ") {
            bail!("the client could not {command:?}: {error}");
        }
        Ok(answer)
    }
}

/// Checks that an answer repeats what was said, to whom the server believes that it speaks.
pub(crate) fn check_answer(answer: &str, client: &Pod, text: &str) -> Result<()> {
    let expected = format!("hello {}, you said: {text}", client.ip());
    ensure!(answer == expected, "the application answered {answer:?} instead of {expected:?}");
    Ok(())
}

/// The program `pod`, which is built beside this one.
fn program() -> Result<Command> {
    let path = std::env::current_exe().context("cannot find this program")?.with_file_name("pod");
    ensure!(path.is_file(), "{} is not built: run `cargo build -p sotto-tests --bins`", path.display());
    Ok(Command::new(path))
}
