//! Pods, services, certificates and policies.

use std::collections::HashSet;
use std::time::SystemTime;

use super::style::{Style, Tone, short};
use super::table::{Cell, Table};
use crate::control::diagnose::dump::agent::{CertificateLine, Dump, PodLine};
use crate::control::diagnose::dump::mesh::{AuthorizationLine, PeerAuthenticationLine, ServiceLine, WorkloadLine};
use crate::model::policy::selector::Labels;

/// A certificate that ends sooner than this is worth a look, whatever its life was: it should have been replaced.
const ENDS_SOON: std::time::Duration = std::time::Duration::from_secs(60);

/// The pods of the agent's node: those that it carries or ought to, then those outside of the mesh.
#[must_use]
pub fn pods(dump: &Dump, namespace: Option<&str>, style: Style) -> String {
    let mut table = Table::new(&["NAMESPACE", "POD", "ADDRESS", "IDENTITY", "MESH"]);
    let wanted = |of: &str| namespace.is_none_or(|namespace| namespace == of);
    let mut own: Vec<&PodLine> = dump.pods.iter().flatten().filter(|pod| wanted(&pod.namespace)).collect();
    own.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let listed: HashSet<_> = own.iter().map(|pod| (&pod.namespace, &pod.name)).collect();
    for pod in &own {
        let mesh = match &pod.waiting_for {
            _ if pod.enrolled => Cell::new(Tone::Good, "carried"),
            Some(why) => Cell::new(Tone::Bad, format!("waits: {why}")),
            None => Cell::new(Tone::Warning, "joining"),
        };
        let ip = pod.ips.first().map(ToString::to_string);
        table.row([(&pod.namespace).into(), (&pod.name).into(), Cell::or_none(ip), (&pod.identity).into(), mesh]);
    }
    let here = |workload: &&WorkloadLine| workload.node == dump.config.node && wanted(&workload.namespace);
    for workload in dump.workloads.iter().flatten().filter(here) {
        if listed.contains(&(&workload.namespace, &workload.name)) {
            continue;
        }
        let ip = workload.workload_ips.first().map(ToString::to_string);
        let identity = Cell::or_none(workload.enrolled.then_some(&workload.identity));
        table.row([
            (&workload.namespace).into(),
            (&workload.name).into(),
            Cell::or_none(ip),
            identity,
            membership(workload),
        ]);
    }
    table.render(style, "no pods on this node")
}

/// All pods that the agent knows.
#[must_use]
pub fn workloads(dump: &Dump, namespace: Option<&str>, style: Style) -> String {
    let mut table = Table::new(&["NAMESPACE", "POD", "NODE", "ADDRESS", "IDENTITY", "MESH"]);
    let wanted = |of: &&WorkloadLine| namespace.is_none_or(|namespace| namespace == of.namespace);
    for workload in dump.workloads.iter().flatten().filter(wanted) {
        let ip = workload.workload_ips.first().map(ToString::to_string);
        let identity = Cell::or_none(workload.enrolled.then_some(&workload.identity));
        let (namespace, name, node) = (&workload.namespace, &workload.name, &workload.node);
        table.row([namespace.into(), name.into(), node.into(), Cell::or_none(ip), identity, membership(workload)]);
    }
    table.render(style, "no pods")
}

fn membership(workload: &WorkloadLine) -> Cell {
    match &workload.reason {
        Some(reason) => Cell::new(Tone::Faint, format!("outside: {reason}")),
        None => Cell::new(Tone::Good, "belongs"),
    }
}

/// The services that the agent knows.
#[must_use]
pub fn services(dump: &Dump, namespace: Option<&str>, style: Style) -> String {
    let mut table = Table::new(&["NAMESPACE", "SERVICE", "ADDRESS", "PORTS", "READY"]);
    let wanted = |of: &&ServiceLine| namespace.is_none_or(|namespace| namespace == of.namespace);
    for service in dump.services.iter().flatten().filter(wanted) {
        let vips: Vec<_> = service.vips.iter().map(|vip| vip.trim_start_matches('/')).collect();
        let address = if vips.is_empty() { Cell::new(Tone::Faint, "headless") } else { vips.join(",").into() };
        let port =
            |(port, target): (&u16, &u16)| if port == target { port.to_string() } else { format!("{port}→{target}") };
        let ports: Vec<_> = service.ports.iter().map(port).collect();
        let all = service.endpoints.len();
        let ready = service.endpoints.values().filter(|endpoint| endpoint.status == "Healthy").count();
        let tone = match ready {
            0 => Tone::Bad,
            _ if ready < all => Tone::Warning,
            _ => Tone::Good,
        };
        let ready = Cell::new(tone, format!("{ready}/{all}"));
        table.row([
            (&service.namespace).into(),
            (&service.name).into(),
            address,
            Cell::or_none(Some(ports.join(","))),
            ready,
        ]);
    }
    table.render(style, "no services")
}

/// The certificates of the agent's node.
#[must_use]
pub fn certificates(dump: &Dump, now: SystemTime, style: Style) -> String {
    let mut table = Table::new(&["IDENTITY", "STATE", "EXPIRES", "REPLACED", "SERIAL", "LAST ERROR"]);
    for line in dump.certificates.iter().flatten() {
        let (expires, tone) = expiry(line, now);
        let state = Cell::new(tone, line.state.to_lowercase());
        let serial = line.cert_chain.first().map(|facts| facts.serial_number.chars().take(16).collect::<String>());
        let error = Cell::or_none(line.last_error.as_deref());
        table.row([
            (&line.identity).into(),
            state,
            expires,
            line.rotations.to_string().into(),
            Cell::or_none(serial),
            error,
        ]);
    }
    table.render(style, "no certificates: no pod of this node belongs to the mesh")
}

fn expiry(line: &CertificateLine, now: SystemTime) -> (Cell, Tone) {
    let ends = line.cert_chain.first().and_then(|facts| humantime::parse_rfc3339(&facts.expiration_time).ok());
    let Some(ends) = ends else { return (Cell::or_none(None::<String>), Tone::Bad) };
    match ends.duration_since(now) {
        Ok(left) if left < ENDS_SOON && line.last_error.is_some() => {
            (Cell::new(Tone::Warning, format!("in {}", short(left))), Tone::Warning)
        }
        Ok(left) => {
            (format!("in {}", short(left)).into(), if line.state == "Available" { Tone::Good } else { Tone::Bad })
        }
        Err(past) => (Cell::new(Tone::Bad, format!("{} ago", short(past.duration()))), Tone::Bad),
    }
}

/// The policies that the agent knows.
#[must_use]
pub fn policies(dump: &Dump, namespace: Option<&str>, style: Style) -> String {
    let mut table = Table::new(&["KIND", "NAMESPACE", "NAME", "FOR", "SAYS"]);
    let wanted = |of: &str| namespace.is_none_or(|namespace| namespace == of);
    for policy in dump.peer_authentications.iter().flatten().filter(|policy| wanted(&policy.namespace)) {
        let says = mutual_tls(policy);
        let kind = "PeerAuthentication".into();
        table.row([kind, (&policy.namespace).into(), (&policy.name).into(), selector(&policy.selector), says.into()]);
    }
    for policy in dump.authorization_policies.iter().flatten().filter(|policy| wanted(&policy.namespace)) {
        let kind = "AuthorizationPolicy".into();
        table.row([kind, (&policy.namespace).into(), (&policy.name).into(), selector(&policy.selector), rules(policy)]);
    }
    table.render(style, "no policies")
}

fn selector(labels: &Labels) -> Cell {
    if labels.is_empty() {
        return Cell::new(Tone::Faint, "all pods");
    }
    let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(",").into()
}

fn mutual_tls(policy: &PeerAuthenticationLine) -> String {
    let ports = policy.ports.iter().map(|(port, mode)| format!("port {port} {mode}"));
    std::iter::once(policy.mode.clone()).chain(ports).collect::<Vec<_>>().join(", ")
}

fn rules(policy: &AuthorizationLine) -> Cell {
    if policy.invalid {
        return Cell::new(Tone::Bad, format!("{}: wrong, so it fails closed; see `sotto status`", policy.action));
    }
    let plural = if policy.rules == 1 { "" } else { "s" };
    format!("{}, {} rule{plural}", policy.action, policy.rules).into()
}
