//! `sotto explain`: asks the running agent whether a connection would be let in, and why.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, bail};

use crate::control::diagnose::answer::Answer;
use crate::control::diagnose::question::Question;
use crate::drivers::admin::client;

/// What to ask, whom, and how to show it.
#[derive(Debug)]
pub struct Config {
    /// The agent's admin address.
    pub admin: SocketAddr,
    /// The connection.
    pub question: Question,
    /// Whether to print JSON.
    pub json: bool,
}

/// Prints the answer; whether the connection would be let in.
///
/// # Errors
/// When no agent answers, or the question makes no sense to it.
pub fn run(config: &Config) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let path = format!("/explain?{}", config.question.to_query());
    let (status, body) = runtime.block_on(client::get(config.admin, &path))?;
    if status != 200 {
        bail!("{}", body.trim_end());
    }
    let answer: Answer =
        serde_json::from_str(&body).context("the agent's answer is not understood; is it of another version?")?;
    let text = if config.json { body } else { answer.to_string() };
    std::io::stdout().lock().write_all(text.as_bytes()).context("printing the answer")?;
    Ok(answer.allowed)
}
