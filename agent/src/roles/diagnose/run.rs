//! One command, from the question to the exit status.

use super::ask::Agent;
use super::check::running::{self, Check};
use super::connections::{self, Watch};
use super::nodes::{self, Nodes};
use super::output::{Failure, Outcome, Output};
use super::profile::{self, Profile};
use super::{lists, log_level};
use crate::control::diagnose::connections::Filter;
use crate::control::diagnose::dump::section::Sections;
use crate::control::diagnose::explain::answer::Answer;
use crate::control::diagnose::explain::question::Question;

/// What is asked, of whom, and how the answer is to look.
#[derive(Debug)]
pub struct Task {
    /// The agent.
    pub agent: Agent,
    /// How the answer looks.
    pub output: Output,
    /// The question.
    pub question: Asked,
}

/// A question.
#[derive(Debug)]
pub enum Asked {
    /// `sotto status`
    Status,
    /// `sotto status --all-nodes`
    AllNodes(Nodes),
    /// `sotto pods`
    Pods {
        /// All that are known, not only this node's.
        mesh: bool,
        /// Only of this namespace.
        namespace: Option<String>,
    },
    /// `sotto services`
    Services {
        /// Only of this namespace.
        namespace: Option<String>,
    },
    /// `sotto certificates`
    Certificates,
    /// `sotto policies`
    Policies {
        /// Only of this namespace.
        namespace: Option<String>,
    },
    /// `sotto connections`
    Connections {
        /// Which.
        filter: Filter,
        /// Again and again.
        watch: Option<Watch>,
    },
    /// `sotto explain`
    Explain(Question),
    /// `sotto check`
    Check(Check),
    /// `sotto log-level`
    LogLevel {
        /// Begin with what the agent was started with.
        reset: bool,
        /// What to set.
        levels: Vec<String>,
    },
    /// `sotto config-dump`
    ConfigDump(Sections),
    /// `sotto profile`
    Profile(Profile),
}

/// Asks and prints the answer.
///
/// # Errors
/// [`Failure`]
pub fn run(task: Task) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::NoAnswer(error.into()))?;
    runtime.block_on(answer(task))
}

async fn answer(task: Task) -> Result<Outcome, Failure> {
    let Task { agent, output, question } = task;
    match question {
        Asked::Status => lists::status(agent, output).await,
        Asked::AllNodes(nodes) => nodes::status(output, &nodes).await,
        Asked::Pods { mesh, namespace } => lists::pods(agent, output, mesh, namespace.as_deref()).await,
        Asked::Services { namespace } => lists::services(agent, output, namespace.as_deref()).await,
        Asked::Certificates => lists::certificates(agent, output).await,
        Asked::Policies { namespace } => lists::policies(agent, output, namespace.as_deref()).await,
        Asked::Connections { filter, watch } => connections::run(agent, output, &filter, watch).await,
        Asked::Explain(question) => {
            let answer: Answer = agent.read(&format!("/explain?{}", question.to_query())).await?;
            output.print(&answer, |_| answer.to_string())?;
            Ok(Outcome::fine_if(answer.reaches))
        }
        Asked::Check(check) => running::run(agent, output, check).await,
        Asked::LogLevel { reset, levels } => log_level::run(agent, output, reset, &levels).await,
        Asked::Profile(profile) => profile::run(agent, &profile).await,
        Asked::ConfigDump(sections) => lists::config_dump(agent, &sections).await,
    }
}
