//! Live connections: what is asked about them, and how they are told.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// So many connections are told in one answer unless more or fewer are asked for.
pub const USUAL_LIMIT: usize = 1000;

/// The most connections in one answer.
pub const MOST: usize = 10_000;

/// An answer. There may be more connections than are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Connections {
    /// All connections that the agent carries; one between two of its own pods counts twice, as it has two sides.
    pub total: usize,
    /// Where to go on (`after`), if there may be more that fit the question.
    pub next: Option<String>,
    /// Those that fit the question.
    pub connections: Vec<ConnectionLine>,
}

/// One side of an open connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionLine {
    /// The pod of this node whose connection it is, as `NAMESPACE/NAME`.
    pub pod: String,
    /// `outbound` if that pod has made it, `inbound` if it was made to it.
    pub direction: String,
    /// `plain`, `same-node` (through the agent), `direct` (between two pods of the node, by the kernel) or the protocol of the tunnel:
    /// `hbone`, `sotto/1`.
    pub protocol: String,
    /// Who connects.
    pub source: PeerLine,
    /// To whom.
    pub destination: PeerLine,
    /// The service that was asked for, by its DNS name.
    pub service: Option<String>,
    /// Bytes from the source to the destination so far.
    pub bytes_from_source: u64,
    /// Bytes from the destination to the source so far.
    pub bytes_from_destination: u64,
    /// How long it has been open, in milliseconds.
    pub age_ms: u64,
    /// The policy that let it in, where this agent asked and one had a part in it.
    pub policy: Option<String>,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLine {
    /// Its address; the application's own, whatever carries the bytes.
    pub address: SocketAddr,
    /// The pod, as `NAMESPACE/NAME`, if the mesh knows one.
    pub pod: Option<String>,
    /// The identity that was proved.
    pub identity: Option<String>,
}

/// Which connections somebody wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The pod of this node whose connection it is: `NAMESPACE/NAME`.
    pub pod: Option<String>,
    /// That pod's namespace.
    pub namespace: Option<String>,
    /// `inbound` or `outbound`.
    pub direction: Option<Direction>,
    /// The other end: an address, a pod, a namespace and a slash, or an identity.
    pub peer: Option<String>,
    /// The port that was connected to.
    pub port: Option<u16>,
    /// The most that are told.
    pub limit: Option<usize>,
    /// Where to go on from an earlier answer.
    pub after: Option<Cursor>,
}

/// A way to look at a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Made to the pod.
    Inbound,
    /// Made by the pod.
    Outbound,
}

/// A place in the tables of connections: one per data-plane thread, and one of direct connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The table.
    pub table: usize,
    /// The place in its table.
    pub place: usize,
}

/// Why a filter is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A value makes no sense.
    #[error("{field}: {value:?} is not {expected}")]
    Value {
        /// Where.
        field: &'static str,
        /// What was said.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// There is no such field.
    #[error("{0:?} cannot be asked for: there are pod, namespace, direction, peer, port, limit and after")]
    Unknown(String),
}

impl Direction {
    /// As queries and answers have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl Cursor {
    /// As queries and answers have it.
    #[must_use]
    pub fn to_text(self) -> String {
        format!("{}.{}", self.table, self.place)
    }

    fn parse(text: &str) -> Option<Self> {
        let (table, place) = text.split_once('.')?;
        Some(Self { table: table.parse().ok()?, place: place.parse().ok()? })
    }
}

impl Filter {
    /// Reads the query of a request.
    ///
    /// # Errors
    /// [`FilterError`]
    pub fn parse(query: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let text = Some(value.to_string());
            match &*key {
                "pod" if is_pod(&value) => filter.pod = text,
                "pod" => return Err(wrong("pod", &value, "NAMESPACE/POD")),
                "namespace" => filter.namespace = text,
                "direction" => filter.direction = Some(direction(&value)?),
                "peer" => filter.peer = text,
                "port" => filter.port = Some(value.parse().map_err(|_| wrong("port", &value, "a port"))?),
                "limit" => filter.limit = Some(limit(&value)?),
                "after" => {
                    let cursor = Cursor::parse(&value);
                    filter.after = Some(cursor.ok_or_else(|| wrong("after", &value, "what an answer gave as next"))?);
                }
                _ => return Err(FilterError::Unknown(shorten(&key))),
            }
        }
        Ok(filter)
    }

    /// The query that [`Self::parse`] reads.
    #[must_use]
    pub fn to_query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let fields = [
            ("pod", self.pod.clone()),
            ("namespace", self.namespace.clone()),
            ("direction", self.direction.map(|direction| direction.name().to_owned())),
            ("peer", self.peer.clone()),
            ("port", self.port.map(|port| port.to_string())),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("after", self.after.map(Cursor::to_text)),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        }
        query.finish()
    }

    /// Whether a connection is one of those that are wanted.
    #[must_use]
    pub fn fits(&self, line: &ConnectionLine) -> bool {
        let outbound = line.direction == Direction::Outbound.name();
        let peer = if outbound { &line.destination } else { &line.source };
        let namespace = |pod: &str, namespace: &str| pod.split_once('/').is_some_and(|(found, _)| found == namespace);
        self.pod.as_ref().is_none_or(|pod| *pod == line.pod)
            && self.namespace.as_ref().is_none_or(|wanted| namespace(&line.pod, wanted))
            && self.direction.is_none_or(|direction| direction.name() == line.direction)
            && self.port.is_none_or(|port| port == line.destination.address.port())
            && self.peer.as_ref().is_none_or(|wanted| is_peer(wanted, peer, line.service.as_deref()))
    }
}

fn is_peer(wanted: &str, peer: &PeerLine, service: Option<&str>) -> bool {
    if let Ok(ip) = wanted.parse::<IpAddr>() {
        return ip == peer.address.ip();
    }
    let pod =
        peer.pod.as_deref().is_some_and(|pod| pod == wanted || (wanted.ends_with('/') && pod.starts_with(wanted)));
    pod || peer.identity.as_deref() == Some(wanted) || service == Some(wanted)
}

fn is_pod(text: &str) -> bool {
    text.split_once('/').is_some_and(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
}

fn direction(text: &str) -> Result<Direction, FilterError> {
    let all = [Direction::Inbound, Direction::Outbound];
    let found = all.into_iter().find(|direction| direction.name() == text);
    found.ok_or_else(|| wrong("direction", text, "inbound or outbound"))
}

fn limit(text: &str) -> Result<usize, FilterError> {
    let limit = text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
    limit.ok_or_else(|| wrong("limit", text, "a number from 1 to 10000"))
}

fn wrong(field: &'static str, value: &str, expected: &'static str) -> FilterError {
    FilterError::Value { field, value: shorten(value), expected }
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> ConnectionLine {
        let peer = |address: &str, pod: &str, account: &str| PeerLine {
            address: address.parse().unwrap(),
            pod: Some(pod.to_owned()),
            identity: Some(format!("spiffe://cluster.local/ns/demo/sa/{account}")),
        };
        ConnectionLine {
            pod: "demo/client".into(),
            direction: "outbound".into(),
            protocol: "hbone".into(),
            source: peer("10.0.0.1:40000", "demo/client", "client"),
            destination: peer("10.0.1.2:8080", "shop/server", "server"),
            service: Some("server.shop.svc.cluster.local".into()),
            bytes_from_source: 1,
            bytes_from_destination: 2,
            age_ms: 3,
            policy: None,
        }
    }

    #[test]
    fn every_field_of_a_filter_counts() {
        for (query, fits) in [
            ("", true),
            ("pod=demo/client&namespace=demo&direction=outbound&port=8080", true),
            ("pod=demo/other", false),
            ("namespace=shop", false),
            ("namespace=dem", false),
            ("direction=inbound", false),
            ("port=40000", false),
            ("peer=10.0.1.2", true),
            ("peer=10.0.0.1", false),
            ("peer=shop/server", true),
            ("peer=shop/", true),
            ("peer=shop", false),
            ("peer=spiffe://cluster.local/ns/demo/sa/server", true),
            ("peer=server.shop.svc.cluster.local", true),
        ] {
            let filter = Filter::parse(query).unwrap();
            assert_eq!(filter.fits(&line()), fits, "{query}");
            assert_eq!(Filter::parse(&filter.to_query()), Ok(filter), "{query}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_field() {
        for (query, expected) in [
            ("pod=client", "pod: \"client\" is not NAMESPACE/POD"),
            ("direction=up", "direction: \"up\" is not inbound or outbound"),
            ("port=70000", "port: \"70000\" is not a port"),
            ("limit=0", "limit: "),
            ("limit=10001", "limit: "),
            ("after=1", "after: "),
            ("after=1.x", "after: "),
            ("colour=red", "\"colour\" cannot be asked for"),
        ] {
            let error = Filter::parse(query).unwrap_err().to_string();
            assert!(error.contains(expected), "{query}: {error}");
        }
    }
}
