//! The `sotto` binary: arguments, settings, role, exit code.

use std::process::ExitCode;

use sotto::cli::{Cli, Command, ExplainArgs};
use sotto::{roles, settings, telemetry};

fn main() -> ExitCode {
    let Cli { command } = Cli::of_process();
    let result = match command {
        Command::Cni => return roles::cni::plugin::run(),
        Command::Explain(args) => return explain(args),
        Command::Standalone(args) => telemetry::log::start(&args.agent.log, args.agent.log_format.into())
            .map_err(anyhow::Error::from)
            .and_then(|_writer| roles::standalone::run(settings::standalone::config(args)?)),
        Command::Controller(args) => telemetry::log::start(&args.log, args.log_format.into())
            .map_err(anyhow::Error::from)
            .and_then(|_writer| roles::controller::run(settings::controller::config(args)?)),
        Command::Node(args) => telemetry::log::start(&args.agent.log, args.agent.log_format.into())
            .map_err(anyhow::Error::from)
            .and_then(|_writer| roles::node::run(settings::node::config(args)?)),
    };
    finish(result, ExitCode::FAILURE)
}

/// `sotto explain`: 0 if the connection is let in, 1 if not, 2 if that is not known.
fn explain(args: ExplainArgs) -> ExitCode {
    const UNKNOWN: u8 = 2;
    let answer = settings::explain::config(args).map_err(anyhow::Error::from);
    match answer.and_then(|config| roles::explain::run(&config)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => finish(Err(error), ExitCode::from(UNKNOWN)),
    }
}

fn finish(result: anyhow::Result<()>, failure: ExitCode) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the last word of a process that cannot go on")]
            {
                eprintln!("sotto: {error:#}");
            }
            failure
        }
    }
}
