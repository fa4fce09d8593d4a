//! `sotto status`, `pods`, `services`, `certificates`, `policies`, `config-dump`.

use std::time::SystemTime;

use super::ask::Agent;
use super::output::{Failure, Outcome, Output, print};
use crate::control::diagnose::connections::Filter;
use crate::control::diagnose::dump::section::{Section, Sections};
use crate::control::diagnose::show::{lists, status};
use crate::drivers::admin::client::Ask;

/// Problems are shown with the status.
const STATUS: [Section; 1] = [Section::Problems];

/// The agent at a glance.
pub(super) async fn status(agent: Agent, output: Output) -> Result<Outcome, Failure> {
    let dump = agent.dump(&STATUS).await?;
    let open = agent.connections(&Filter { limit: Some(1), ..Filter::default() }).await?.total;
    output.print(&dump, |style| status::status(&dump, open, SystemTime::now(), style))?;
    Ok(Outcome::fine_if(status::is_fine(&dump)))
}

/// Pods of the node, or of the whole mesh; something is found when one waits.
pub(super) async fn pods(
    agent: Agent,
    output: Output,
    mesh: bool,
    namespace: Option<&str>,
) -> Result<Outcome, Failure> {
    let here = |of: &str| namespace.is_none_or(|namespace| namespace == of);
    if mesh {
        let mut dump = agent.dump(&[Section::Workloads]).await?;
        dump.workloads.iter_mut().for_each(|lines| lines.retain(|line| here(&line.namespace)));
        output.print(&dump.workloads, |style| lists::workloads(&dump, namespace, style))?;
        return Ok(Outcome::Fine);
    }
    let mut dump = agent.dump(&[Section::Pods, Section::Workloads]).await?;
    dump.pods.iter_mut().for_each(|lines| lines.retain(|line| here(&line.namespace)));
    output.print(&dump.pods, |style| lists::pods(&dump, namespace, style))?;
    Ok(Outcome::fine_if(dump.pods.iter().flatten().all(|pod| pod.enrolled)))
}

/// Services with what is behind them.
pub(super) async fn services(agent: Agent, output: Output, namespace: Option<&str>) -> Result<Outcome, Failure> {
    let mut dump = agent.dump(&[Section::Services]).await?;
    let wanted = |of: &str| namespace.is_none_or(|namespace| namespace == of);
    dump.services.iter_mut().for_each(|lines| lines.retain(|line| wanted(&line.namespace)));
    output.print(&dump.services, |style| lists::services(&dump, namespace, style))?;
    Ok(Outcome::Fine)
}

/// Certificates; something is found when one is missing.
pub(super) async fn certificates(agent: Agent, output: Output) -> Result<Outcome, Failure> {
    let dump = agent.dump(&[Section::Certificates]).await?;
    output.print(&dump.certificates, |style| lists::certificates(&dump, SystemTime::now(), style))?;
    Ok(Outcome::fine_if(dump.counts.certificates_missing == 0))
}

/// Policies; something is found when one is wrong.
pub(super) async fn policies(agent: Agent, output: Output, namespace: Option<&str>) -> Result<Outcome, Failure> {
    let mut dump = agent.dump(&[Section::Policies]).await?;
    let wanted = |of: &str| namespace.is_none_or(|namespace| namespace == of);
    dump.authorization_policies.iter_mut().for_each(|lines| lines.retain(|line| wanted(&line.namespace)));
    dump.peer_authentications.iter_mut().for_each(|lines| lines.retain(|line| wanted(&line.namespace)));
    let both = serde_json::json!({
        "authorizationPolicies": dump.authorization_policies,
        "peerAuthentications": dump.peer_authentications,
    });
    output.print(&both, |style| lists::policies(&dump, namespace, style))?;
    Ok(Outcome::fine_if(!dump.authorization_policies.iter().flatten().any(|policy| policy.invalid)))
}

/// The dump as the agent gives it.
pub(super) async fn config_dump(agent: Agent, sections: &Sections) -> Result<Outcome, Failure> {
    print(&agent.text(&Ask::get(format!("/config_dump?{}", sections.to_query()))).await?)?;
    Ok(Outcome::Fine)
}
