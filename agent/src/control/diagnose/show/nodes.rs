//! The agents of all nodes, one line each.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::status::{age, is_fine};
use super::style::{Style, Tone, short};
use super::table::{Cell, Table};
use crate::control::diagnose::dump::agent::Dump;

/// One node's agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLine {
    /// The node.
    pub node: String,
    /// The agent's pod.
    pub pod: String,
    /// What the agent says of itself.
    pub status: Option<Dump>,
    /// Why it says nothing.
    pub error: Option<String>,
}

/// Whether anything is not as it should be.
#[must_use]
pub fn are_fine(nodes: &[NodeLine]) -> bool {
    nodes.iter().all(|node| node.status.as_ref().is_some_and(is_fine))
}

/// The table.
#[must_use]
pub fn nodes(nodes: &[NodeLine], now: SystemTime, style: Style) -> String {
    let mut table =
        Table::new(&["NODE", "AGENT", "VERSION", "UP", "CARRIED", "WAITING", "CERTIFICATES", "PROBLEMS", "STATE"]);
    for line in nodes {
        let none = || Cell::or_none(None::<String>);
        let Some(status) = &line.status else {
            let why = line.error.as_deref().unwrap_or("no answer");
            let agent = Cell::new(Tone::Bad, format!("no answer: {why}"));
            table.row([(&line.node).into(), agent, none(), none(), none(), none(), none(), none(), none()]);
            continue;
        };
        let counts = status.counts;
        let agent = match status.pending.first() {
            _ if status.ready => Cell::new(Tone::Good, "ready"),
            Some(pending) => Cell::new(Tone::Bad, format!("waits for {pending}")),
            None => Cell::new(Tone::Bad, "not ready"),
        };
        let bad = |count: usize| Cell::new(if count > 0 { Tone::Bad } else { Tone::Plain }, count.to_string());
        let certificates = match counts.certificates_missing {
            0 => counts.certificates_valid.to_string().into(),
            missing => Cell::new(Tone::Bad, format!("{}, {missing} missing", counts.certificates_valid)),
        };
        table.row([
            (&line.node).into(),
            agent,
            (&status.version).into(),
            Cell::or_none(age(&status.started_at, now).map(short)),
            counts.pods_carried.to_string().into(),
            bad(counts.pods_waiting),
            certificates,
            bad(counts.problems),
            status.state_version.to_string().into(),
        ]);
    }
    table.render(style, "no agents")
}
