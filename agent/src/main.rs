//! The `sotto` binary: arguments, settings, role, exit code.

use std::process::ExitCode;

use sotto::cli::{Cli, Command};
use sotto::roles::diagnose::output::{Failure, Outcome};
use sotto::settings::diagnose::args::DiagnoseCommand;
use sotto::settings::diagnose::task::{Work, work};
use sotto::settings::diagnose::texts;
use sotto::sys::profile::heap::HeapProfiler;
use sotto::{roles, settings, telemetry};

/// The system's allocator, which can say what memory is for.
#[global_allocator]
static HEAP: HeapProfiler = HeapProfiler;

fn main() -> ExitCode {
    let Cli { command } = Cli::of_process();
    let result = match command {
        Command::Cni => return roles::cni::plugin::run(),
        Command::Diagnose(command) => return diagnose(command),
        Command::Standalone(args) => telemetry::log::start(&args.agent.log, args.agent.log_format.into())
            .map_err(anyhow::Error::from)
            .and_then(|log| roles::standalone::run(settings::standalone::config(args, log.control)?)),
        Command::Controller(args) => telemetry::log::start(&args.log, args.log_format.into())
            .map_err(anyhow::Error::from)
            .and_then(|_log| roles::controller::run(settings::controller::config(args)?)),
        Command::Node(args) => telemetry::log::start(&args.agent.log, args.agent.log_format.into())
            .map_err(anyhow::Error::from)
            .and_then(|log| roles::node::run(settings::node::config(args, log.control)?)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&format!("{error:#}"), ExitCode::FAILURE),
    }
}

/// Operators' commands: 0 all is well, or yes; 1 something was found, or no; 2 the question makes no sense; 3 no answer.
fn diagnose(command: DiagnoseCommand) -> ExitCode {
    const QUESTION: u8 = 2;
    const NO_ANSWER: u8 = 3;
    let outcome = work(command).and_then(|work| match work {
        Work::Ask(task) => roles::diagnose::run::run(task),
        Work::Write(text) => texts::write(&text).map(|()| Outcome::Fine),
    });
    match outcome {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Finding) => ExitCode::FAILURE,
        Err(failure @ Failure::Question(_)) => failed(&failure.to_string(), ExitCode::from(QUESTION)),
        Err(failure @ Failure::NoAnswer(_)) => failed(&failure.to_string(), ExitCode::from(NO_ANSWER)),
    }
}

fn failed(why: &str, code: ExitCode) -> ExitCode {
    #[expect(clippy::print_stderr, reason = "the last word of a process that cannot go on")]
    {
        eprintln!("sotto: {why}");
    }
    code
}
