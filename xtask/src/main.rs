//! Everything a contributor runs: `cargo xtask help`. One module per command.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its terminal")]

mod bench;
mod build;
mod cache;
mod ci;
mod cluster;
mod ebpf;
mod exercise;
mod image;
mod process;
mod setup;
mod tidy;
mod tiers;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exercise::{demo, fuzz, soak};
use crate::tiers::runner::Selection;
use crate::workspace::Workspace;

/// Builds, tests and checks sotto.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make this machine able to build and test: eBPF toolchain, linker, test tools. Quick when nothing is missing.
    Setup,
    /// Build the eBPF programs into target/sotto-ebpf.o and list them.
    Ebpf,
    /// Build the eBPF programs and the `sotto` binary (release unless --dev).
    Build(build::Options),
    /// Run every test tier that this machine can run, and say which it could not.
    Test(Selection),
    /// Two nodes as network namespaces, pods enrolled live, what crosses the wire before and after.
    Demo(demo::Options),
    /// Throw mutated bytes at everything that reads from the network or a file (libFuzzer; needs a nightly compiler).
    Fuzz(fuzz::Options),
    /// Mixed traffic between two nodes while agents crash, end and start, and a report of what failed and what grew.
    Soak(soak::Options),
    /// Compare sotto with no mesh, Envoy sidecars and ztunnel on this machine: speed, processor time, memory, what joining costs.
    Bench(bench::command::Options),
    /// Count the instructions of the data path's pure functions under callgrind, against a committed budget.
    Instructions(ci::instructions::Options),
    /// A Kubernetes cluster of two nodes on this machine, built from Debian's source; or its API server alone.
    Cluster(cluster::command::Options),
    /// Build the container image of sotto as an OCI archive, without Docker.
    Image(image::sotto::Options),
    /// Check layers, budgets, module docs and documents.
    Tidy,
    /// Everything that continuous integration checks, in its order.
    Ci,
}

fn main() -> ExitCode {
    run(Cli::parse().task).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(task: Task) -> anyhow::Result<ExitCode> {
    let tree = Workspace::discover;
    match task {
        Task::Setup => setup::prepare::run(&tree()?),
        Task::Ebpf => ebpf::run(&tree()?),
        Task::Build(options) => build::run(&tree()?, &options),
        Task::Test(selection) => tiers::runner::run(&tree()?, &selection),
        Task::Demo(options) => demo::run(&tree()?, &options),
        Task::Fuzz(options) => fuzz::run(&tree()?, &options),
        Task::Soak(options) => soak::run(&tree()?, &options),
        Task::Bench(options) => bench::command::run(&tree()?, &options),
        Task::Instructions(options) => ci::instructions::run(&tree()?, &options),
        // Needs no tree: it is also pid 1 of a node.
        Task::Cluster(options) => cluster::command::run(&options),
        Task::Image(options) => image::sotto::run(&tree()?, &options),
        Task::Tidy => tidy::report::run(&tree()?),
        Task::Ci => ci::steps::run(&tree()?),
    }
}
