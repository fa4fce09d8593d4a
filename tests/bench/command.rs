//! What is asked for.

use std::path::PathBuf;

use clap::Parser;

/// Measures what carries traffic between two pods.
#[derive(Parser, Debug)]
pub(crate) struct Options {
    /// How often each contestant has its turn
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: u32,

    /// How long each load is put on
    #[arg(long, default_value_t = 2)]
    pub(crate) seconds: u32,

    /// Requests a second of the load at a fixed rate, the same for all
    #[arg(long, default_value_t = 4000)]
    pub(crate) rate: u32,

    /// These contestants only
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// These figures only (`throughput`, `requests`, …)
    #[arg(long, value_delimiter = ',')]
    pub(crate) figures: Vec<String>,

    /// Less of what is measured once: 100 pods, a mesh of 10,000 workloads
    #[arg(long)]
    pub(crate) quick: bool,

    /// Profiles the proxies instead of measuring, and writes what perf says there
    #[arg(long)]
    pub(crate) profile: Option<PathBuf>,

    /// How many cores everything shares
    #[arg(long, default_value_t = 2)]
    pub(crate) cores: usize,

    /// Where all values go, as JSON
    #[arg(long)]
    pub(crate) out: PathBuf,
}

impl Options {
    /// Whether a group of figures is wanted.
    pub(crate) fn wants(&self, figure: &str) -> bool {
        self.figures.is_empty() || self.figures.iter().any(|wanted| wanted == figure)
    }
}
