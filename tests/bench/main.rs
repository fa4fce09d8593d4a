//! Measures what carries traffic between two pods: nothing, sidecars, ztunnel, sotto. Each in its turn, round by round, on the
//! same cores, with the same load. Writes every single value; `cargo xtask bench` makes tables and charts of them.

mod carriers;
mod command;
mod lifecycle;
mod load;
mod output;
mod pair;
mod profile;
mod rounds;
mod size;
mod tools;
mod turn;
mod usage;

use std::panic::catch_unwind;
use std::process::ExitCode;

use clap::Parser as _;

use command::Options;

fn main() -> ExitCode {
    harness::clean_up_on_signals();
    let options = Options::parse();
    // The harness panics when something does not come about; unwinding removes what was made.
    match catch_unwind(|| rounds::run(&options)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            output::say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}
