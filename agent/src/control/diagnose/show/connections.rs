//! Open connections.

use std::time::Duration;

use super::style::{Style, Tone, bytes, short};
use super::table::{Cell, Table};
use crate::control::diagnose::connections::{ConnectionLine, Connections, Direction};

/// A table of connections, and how many there are besides.
#[must_use]
pub fn connections(found: &Connections, style: Style) -> String {
    let heading = ["POD", "", "PEER", "SERVICE", "PROTOCOL", "IN", "OUT", "AGE", "POLICY"];
    let mut table = Table::new(&heading);
    let mut lines: Vec<&ConnectionLine> = found.connections.iter().collect();
    lines.sort_by(|a, b| (&a.pod, &a.direction, a.age_ms).cmp(&(&b.pod, &b.direction, b.age_ms)));
    for line in lines {
        add(&mut table, line);
    }
    let told = found.connections.len();
    let rest = match &found.next {
        Some(next) => {
            format!("the first {told} of those that fit, of {} in all; go on with --after {next}\n", found.total)
        }
        None if told < found.total => format!("{told} of {} connections\n", found.total),
        None => String::new(),
    };
    let nothing = if found.total == 0 { "no open connections" } else { "no connection fits" };
    table.render(style, nothing) + &style.paint(Tone::Faint, rest.trim_end()) + if rest.is_empty() { "" } else { "\n" }
}

fn add(table: &mut Table, line: &ConnectionLine) {
    let outbound = line.direction == Direction::Outbound.name();
    // As the pod sees it: what it gets, and what it sends.
    let (arrow, peer, own, [received, sent]) = if outbound {
        ("→", &line.destination, None, [line.bytes_from_destination, line.bytes_from_source])
    } else {
        let own = Some(line.destination.address.port());
        ("←", &line.source, own, [line.bytes_from_source, line.bytes_from_destination])
    };
    let pod = if line.pod.is_empty() { "?" } else { &line.pod };
    let own = own.map_or_else(|| pod.to_owned(), |port| format!("{pod}:{port}"));
    let peer = match &peer.pod {
        Some(pod) => format!("{pod} {}", peer.address),
        None => peer.address.to_string(),
    };
    let tone = if line.protocol == "plain" { Tone::Warning } else { Tone::Good };
    let service = line.service.as_deref().map(|name| name.strip_suffix(".svc.cluster.local").unwrap_or(name));
    table.row([
        own.into(),
        arrow.into(),
        peer.into(),
        Cell::or_none(service),
        Cell::new(tone, &line.protocol),
        bytes(received).into(),
        bytes(sent).into(),
        short(Duration::from_millis(line.age_ms)).into(),
        Cell::or_none(line.policy.as_deref()),
    ]);
}
