//! From flags to what is asked.

use std::net::SocketAddr;
use std::time::Duration;

use super::args::{
    AgentArgs, CheckArgs, ConnectionsArgs, DiagnoseCommand, DirectionArg, ExplainArgs, Format, ProfileCommand,
    StatusArgs,
};
use super::texts::Text;
use crate::control::diagnose::connections::{Direction, Filter};
use crate::control::diagnose::dump::section::{Section, Sections};
use crate::control::diagnose::explain::question::Question;
use crate::control::diagnose::profile::CpuQuestion;
use crate::roles::diagnose::ask::Agent;
use crate::roles::diagnose::check::running::Check;
use crate::roles::diagnose::connections::Watch;
use crate::roles::diagnose::nodes::Nodes;
use crate::roles::diagnose::output::{Failure, Output};
use crate::roles::diagnose::profile::{Profile, Subject};
use crate::roles::diagnose::run::{Asked, Task};

/// What a command is about.
#[derive(Debug)]
pub enum Work {
    /// To ask somebody.
    Ask(Task),
    /// To write something about the command line itself.
    Write(Text),
}

/// Checks the flags.
///
/// # Errors
/// [`Failure::Question`] when they make no sense, naming the flag.
pub fn work(command: DiagnoseCommand) -> Result<Work, Failure> {
    Ok(Work::Ask(match command {
        DiagnoseCommand::Status(args) => status(args),
        DiagnoseCommand::Pods(args) => of(args.agent, Asked::Pods { mesh: args.mesh, namespace: args.namespace }),
        DiagnoseCommand::Services(args) => of(args.agent, Asked::Services { namespace: args.namespace }),
        DiagnoseCommand::Certificates(args) => of(args, Asked::Certificates),
        DiagnoseCommand::Policies(args) => of(args.agent, Asked::Policies { namespace: args.namespace }),
        DiagnoseCommand::Connections(args) => connections(args)?,
        DiagnoseCommand::Explain(args) => explain(args)?,
        DiagnoseCommand::Check(args) => check(args),
        DiagnoseCommand::LogLevel(args) => of(args.agent, Asked::LogLevel { reset: args.reset, levels: args.levels }),
        DiagnoseCommand::ConfigDump(args) => {
            let sections: Result<Vec<Section>, _> = args.section.iter().map(|name| name.parse()).collect();
            let sections = sections.map_err(|error| Failure::Question(format!("--section: {error}")))?;
            let sections = if sections.is_empty() { Section::ALL.to_vec() } else { sections };
            task(args.admin_addr, true, Asked::ConfigDump(Sections::of(&sections)))
        }
        DiagnoseCommand::Profile(command) => profile(command),
        DiagnoseCommand::Completion { shell } => return Ok(Work::Write(Text::Completion(shell))),
        DiagnoseCommand::Man { directory } => return Ok(Work::Write(Text::Man(directory))),
    }))
}

fn of(agent: AgentArgs, question: Asked) -> Task {
    task(agent.admin_addr, agent.output == Format::Json, question)
}

fn task(agent: SocketAddr, json: bool, question: Asked) -> Task {
    Task { agent: Agent(agent), output: Output::for_stdout(json), question }
}

fn status(args: StatusArgs) -> Task {
    let StatusArgs { all_nodes, kubeconfig, context, agent_namespace: namespace, agent } = args;
    let port = agent.admin_addr.port();
    let nodes = all_nodes.then_some(Nodes { kubeconfig, context, namespace, port });
    of(agent, nodes.map_or(Asked::Status, Asked::AllNodes))
}

fn connections(args: ConnectionsArgs) -> Result<Task, Failure> {
    let ConnectionsArgs { pod, namespace, direction, peer, port, limit, after, watch, count, agent } = args;
    let direction = direction.map(|direction| match direction {
        DirectionArg::Inbound => Direction::Inbound,
        DirectionArg::Outbound => Direction::Outbound,
    });
    let limit = limit.map(usize::from);
    let mut filter = Filter { pod, namespace, direction, peer, port, limit, after: None };
    // As the agent reads it, so that both say the same of what makes no sense.
    let query = match after {
        Some(after) => format!("{}&after={after}", filter.to_query()),
        None => filter.to_query(),
    };
    filter = Filter::parse(&query).map_err(|error| Failure::Question(format!("--{error}")))?;
    let watch = watch.map(|interval| Watch { interval, count });
    Ok(of(agent, Asked::Connections { filter, watch }))
}

fn check(args: CheckArgs) -> Task {
    let CheckArgs { post_install, standalone, kubeconfig, cni_conf_dir, cni_bin_dir, cgroup, agent } = args;
    of(agent, Asked::Check(Check { post_install, kubeconfig, cni_conf_dir, cni_bin_dir, standalone, cgroup }))
}

fn profile(command: ProfileCommand) -> Task {
    let (subject, file) = match command {
        ProfileCommand::Cpu { seconds, frequency, file } => {
            let duration = Duration::from_secs(seconds.into());
            (Subject::Cpu(CpuQuestion { duration, frequency }), file)
        }
        ProfileCommand::Heap { seconds, file } => (Subject::Heap(Duration::from_secs(seconds.into())), file),
    };
    task(file.admin_addr, false, Asked::Profile(Profile { subject, output: file.output }))
}

fn explain(args: ExplainArgs) -> Result<Task, Failure> {
    let ExplainArgs { from, from_identity, from_ip, to, port, agent } = args;
    let port = port.to_string();
    let fields = [
        ("from", from),
        ("from-identity", from_identity),
        ("from-ip", from_ip),
        ("to", Some(to)),
        ("port", Some(port)),
    ];
    let question = Question::of(fields.into_iter().filter_map(|(field, value)| Some((field, value?))));
    let question = question.map_err(|error| Failure::Question(format!("--{error}")))?;
    Ok(of(agent, Asked::Explain(question)))
}
