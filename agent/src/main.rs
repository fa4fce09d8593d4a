//! The `sotto` binary: arguments, settings, role, exit code.

use std::process::ExitCode;

use clap::Parser;
use sotto::cli::{Cli, Command};
use sotto::{roles, settings, telemetry};

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let result = match command {
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
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the last word of a process that cannot go on")]
            {
                eprintln!("sotto: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
