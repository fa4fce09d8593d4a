//! `sotto connections`

use std::time::Duration;

use super::ask::Agent;
use super::output::{Failure, Outcome, Output, print};
use crate::control::diagnose::connections::Filter;
use crate::control::diagnose::show::connections::connections;

/// To look again and again.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Between two looks.
    pub interval: Duration,
    /// So many looks; none for as long as nobody interrupts.
    pub count: Option<u32>,
}

/// Puts the cursor at the top left of a terminal and clears what is below.
const TOP: &str = "\u{1b}[H\u{1b}[J";

/// Connections, once or again and again.
pub(super) async fn run(
    agent: Agent,
    output: Output,
    filter: &Filter,
    watch: Option<Watch>,
) -> Result<Outcome, Failure> {
    let Some(Watch { interval, count }) = watch else {
        let found = agent.connections(filter).await?;
        output.print(&found, |style| connections(&found, style))?;
        return Ok(Outcome::Fine);
    };
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looks = 0;
    while count.is_none_or(|count| looks < count) {
        ticks.tick().await;
        let found = agent.connections(filter).await?;
        match (output.json, output.style.colours) {
            // One object per line.
            (true, _) => print(&(serde_json::to_string(&found).map_err(|e| Failure::NoAnswer(e.into()))? + "\n"))?,
            (false, true) => print(&(TOP.to_owned() + &connections(&found, output.style)))?,
            (false, false) if looks > 0 => print(&("\n".to_owned() + &connections(&found, output.style)))?,
            (false, false) => print(&connections(&found, output.style))?,
        }
        looks += 1;
    }
    Ok(Outcome::Fine)
}
