//! The question, as the query of an admin page.

use std::fmt;
use std::net::IpAddr;

use crate::model::identity::Identity;
use crate::model::workload::ObjectName;

/// The longest query that is read, in bytes.
const MAX_QUERY: usize = 4096;

/// The longest value that is repeated in an error.
const SHOWN: usize = 80;

/// A connection that somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who would connect.
    pub from: Client,
    /// From which address; the pod's own if not said.
    pub from_ip: Option<IpAddr>,
    /// To whom.
    pub to: Server,
    /// To which port, as the client dials it.
    pub port: u16,
}

/// Who would connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// A pod.
    Pod(ObjectName),
    /// Somebody who proves this identity.
    Identity(Identity),
    /// Somebody in clear text.
    Nobody,
}

/// To whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// A pod; a service, if there is no pod of this name.
    Named(ObjectName),
    /// A pod.
    Pod(ObjectName),
    /// A service.
    Service(ObjectName),
    /// An address: a pod's, a service's, or one that is not the mesh's.
    Ip(IpAddr),
}

/// Why a question cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// A part of the query is not understood.
    #[error("{field}: {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong, and what to write.
        problem: String,
    },
    /// There is no such part.
    #[error("{0:?} is not a part of the question: there are from, from-identity, from-ip, to and port")]
    Unknown(String),
    /// More than anybody needs to ask.
    #[error("the question has {0} bytes; at most {MAX_QUERY} are read")]
    TooLong(usize),
}

impl Question {
    /// Reads a query: `from=NAMESPACE/POD` or `from-identity=spiffe://…`, `from-ip=IP`, `to=NAMESPACE/POD`,
    /// `svc/NAMESPACE/SERVICE`, a service's DNS name or an IP address, `port=N`, percent-encoded as a form is.
    ///
    /// # Errors
    /// [`QuestionError`]
    pub fn parse(query: &str) -> Result<Self, QuestionError> {
        if query.len() > MAX_QUERY {
            return Err(QuestionError::TooLong(query.len()));
        }
        Self::of(form_urlencoded::parse(query.as_bytes()).map(|(key, value)| (key, value.into_owned())))
    }

    /// Puts a question together from its parts, by the names that [`Self::parse`] knows.
    ///
    /// # Errors
    /// [`QuestionError`]
    pub fn of(parts: impl Iterator<Item = (impl AsRef<str>, String)>) -> Result<Self, QuestionError> {
        let mut fields = Fields::default();
        for (key, value) in parts {
            fields.set(key.as_ref(), value)?;
        }
        fields.question()
    }

    /// The query that [`Self::parse`] reads.
    #[must_use]
    pub fn to_query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        match &self.from {
            Client::Pod(pod) => drop(query.append_pair("from", &pod.to_string())),
            Client::Identity(identity) => drop(query.append_pair("from-identity", &identity.to_string())),
            Client::Nobody => {}
        }
        if let Some(ip) = self.from_ip {
            query.append_pair("from-ip", &ip.to_string());
        }
        query.append_pair("to", &self.to.to_string());
        query.append_pair("port", &self.port.to_string());
        query.finish()
    }
}

const FIELDS: [&str; 5] = ["from", "from-identity", "from-ip", "to", "port"];

#[derive(Default)]
struct Fields([Option<String>; FIELDS.len()]);

impl Fields {
    fn set(&mut self, key: &str, value: String) -> Result<(), QuestionError> {
        let Some(index) = FIELDS.iter().position(|field| *field == key) else {
            return Err(QuestionError::Unknown(shorten(key)));
        };
        match self.0[index].replace(value) {
            None => Ok(()),
            Some(_) => Err(wrong(FIELDS[index], "is given twice".to_owned())),
        }
    }

    fn question(self) -> Result<Question, QuestionError> {
        let [from, from_identity, from_ip, to, port] = self.0;
        let from_ip = from_ip.map(|text| ip("from-ip", &text)).transpose()?;
        let from = match (from, from_identity) {
            (Some(pod), None) => Client::Pod(name("from", &pod)?),
            (None, Some(identity)) => {
                let parsed = identity.parse().map_err(|error| wrong("from-identity", format!("{error}")))?;
                Client::Identity(parsed)
            }
            (None, None) if from_ip.is_some() => Client::Nobody,
            (None, None) => {
                let problem =
                    "is missing: say from (NAMESPACE/POD), from-identity (spiffe://…) or, for clear text, from-ip";
                return Err(wrong("from", problem.to_owned()));
            }
            (Some(_), Some(_)) => return Err(wrong("from", "and from-identity exclude each other".to_owned())),
        };
        let to = to.ok_or_else(|| {
            wrong("to", "is missing: write NAMESPACE/POD, svc/NAMESPACE/SERVICE or an IP address".to_owned())
        })?;
        let port = port.ok_or_else(|| wrong("port", "is missing: write the port that the client dials".to_owned()))?;
        let number = port.parse().ok().filter(|port| *port != 0);
        let number = number.ok_or_else(|| wrong("port", format!("{:?} is not a port", shorten(&port))))?;
        Ok(Question { from, from_ip, to: server(&to)?, port: number })
    }
}

fn server(text: &str) -> Result<Server, QuestionError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Server::Ip(ip.to_canonical()));
    }
    match text.split_once('/') {
        Some(("svc" | "service", rest)) if rest.contains('/') => return Ok(Server::Service(name("to", rest)?)),
        Some(("pod", rest)) if rest.contains('/') => return Ok(Server::Pod(name("to", rest)?)),
        Some(_) => return Ok(Server::Named(name("to", text)?)),
        None => {}
    }
    let service = text.strip_suffix(".svc.cluster.local").or_else(|| text.strip_suffix(".svc"));
    match service.and_then(|service| service.split_once('.')) {
        Some((name, namespace)) if !name.is_empty() && !namespace.is_empty() => {
            Ok(Server::Service(ObjectName::new(namespace, name)))
        }
        _ => Err(wrong("to", format!("{:?} is not of the form {FORMS}", shorten(text)))),
    }
}

/// Ways to say to whom.
const FORMS: &str = "NAMESPACE/POD, svc/NAMESPACE/SERVICE, SERVICE.NAMESPACE.svc, or an IP address";

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(f),
            Self::Pod(name) => write!(f, "pod/{name}"),
            Self::Service(name) => write!(f, "svc/{name}"),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

fn ip(field: &'static str, text: &str) -> Result<IpAddr, QuestionError> {
    let ip = text.parse::<IpAddr>().map_err(|_| wrong(field, format!("{:?} is not an IP address", shorten(text))))?;
    Ok(ip.to_canonical())
}

fn name(field: &'static str, text: &str) -> Result<ObjectName, QuestionError> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ObjectName::new(namespace, name))
        }
        _ => Err(wrong(field, format!("{:?} is not of the form NAMESPACE/POD", shorten(text)))),
    }
}

fn wrong(field: &'static str, problem: String) -> QuestionError {
    QuestionError::Field { field, problem }
}

fn shorten(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
