//! The `sotto` binary: arguments, settings, role, exit code.

use std::process::ExitCode;

use sotto::cli::{Cli, Command};
use sotto::{roles, settings, telemetry};

fn main() -> ExitCode {
    let Cli { command } = Cli::of_process();
    let result = match command {
        Command::Cni => return roles::cni::plugin::run(),
        Command::Standalone(args) => telemetry::log::start(&args.log, args.log_format.into())
            .map_err(anyhow::Error::from)
            .and_then(|_writer| roles::standalone::run(settings::standalone::config(args)?)),
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
