//! `sotto log-level`

use super::ask::Agent;
use super::output::{Failure, Outcome, Output};
use crate::control::diagnose::dump::agent::LogStatus;
use crate::control::diagnose::show::style::Style;
use crate::drivers::admin::client::Ask;

/// Changes what is logged, if anything is to change, and shows it.
pub(super) async fn run(agent: Agent, output: Output, reset: bool, levels: &[String]) -> Result<Outcome, Failure> {
    if reset || !levels.is_empty() {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if reset {
            query.append_key_only("reset");
        }
        if !levels.is_empty() {
            query.append_pair("level", &levels.join(","));
        }
        agent.text(&Ask::post(format!("/logging?{}", query.finish()))).await?;
    }
    let status: LogStatus = agent.read("/logging").await?;
    output.print(&status, |_: Style| {
        let start =
            if status.start == status.filter { String::new() } else { format!("  (started with {})", status.start) };
        format!("{}{start}\n", status.filter)
    })?;
    Ok(Outcome::Fine)
}
