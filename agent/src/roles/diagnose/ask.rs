//! Questions to an agent's admin pages.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde::de::DeserializeOwned;

use super::output::Failure;
use crate::control::diagnose::connections::{Connections, Filter};
use crate::control::diagnose::dump::agent::Dump;
use crate::control::diagnose::dump::section::{Section, Sections};
use crate::drivers::admin::client::{Answered, Ask, ask};

/// An agent, by the address of its admin pages.
#[derive(Clone, Copy, Debug)]
pub struct Agent(pub SocketAddr);

/// The statuses that an agent answers nonsense with.
const NONSENSE: [u16; 4] = [400, 404, 413, 414];

impl Agent {
    /// These sections of its dump.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn dump(self, sections: &[Section]) -> Result<Dump, Failure> {
        self.read(&dump_path(sections)).await
    }

    /// Its connections.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn connections(self, filter: &Filter) -> Result<Connections, Failure> {
        self.read(&format!("/connections?{}", filter.to_query())).await
    }

    /// A page.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn text(self, request: &Ask) -> Result<String, Failure> {
        Ok(String::from_utf8_lossy(&self.bytes(request).await?).into_owned())
    }

    /// A page that is no text.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn bytes(self, request: &Ask) -> Result<Vec<u8>, Failure> {
        taken(ask(self.0, request).await.map_err(|error| Failure::NoAnswer(error.into()))?)
    }

    /// A page in JSON.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn read<T: DeserializeOwned>(self, path: &str) -> Result<T, Failure> {
        understood(&self.bytes(&Ask::get(path)).await?)
    }
}

/// The path of these sections.
pub(super) fn dump_path(sections: &[Section]) -> String {
    format!("/config_dump?{}", Sections::of(sections).to_query())
}

/// The body of an answer that is one.
pub(super) fn taken((status, body): Answered) -> Result<Vec<u8>, Failure> {
    let says = || String::from_utf8_lossy(&body).trim_end().to_owned();
    match status {
        200 => Ok(body),
        status if NONSENSE.contains(&status) => Err(Failure::Question(says())),
        status => Err(Failure::NoAnswer(anyhow::anyhow!("the agent answers with status {status}: {}", says()))),
    }
}

pub(super) fn understood<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let read = serde_json::from_slice(body).context("the agent's answer is not understood; is it of another version?");
    read.map_err(Failure::NoAnswer)
}
