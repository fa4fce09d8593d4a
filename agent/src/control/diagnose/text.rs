//! The answer for people.

use std::fmt;

use super::answer::{Answer, MutualTls, PolicyAnswer, RuleAnswer, Side};

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict)?;
        writeln!(f)?;
        row(f, "from", &self.source)?;
        row(f, "to", &self.destination)?;
        row(f, "mutual TLS", &self.mtls)?;
        if self.policies.is_empty() {
            row(f, "policies", &"no AuthorizationPolicy is for this pod")?;
        }
        for (index, policy) in self.policies.iter().enumerate() {
            row(f, if index == 0 { "policies" } else { "" }, policy)?;
            for rule in &policy.rules {
                row(f, "", rule)?;
            }
        }
        for (index, note) in self.notes.iter().enumerate() {
            row(f, if index == 0 { "notes" } else { "" }, note)?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, what: &dyn fmt::Display) -> fmt::Result {
    writeln!(f, "{name:<12}{what}")
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.pod, &self.node) {
            (Some(pod), Some(node)) => write!(f, "{pod} on {node}")?,
            _ => f.write_str("no pod of the mesh")?,
        }
        match self.port {
            Some(port) => write!(f, ", {}", std::net::SocketAddr::new(self.ip, port))?,
            None => write!(f, ", {}", self.ip)?,
        }
        match &self.identity {
            Some(identity) => write!(f, ", {identity}"),
            None => f.write_str(", no identity (clear text)"),
        }
    }
}

impl fmt::Display for MutualTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.policy {
            Some(policy) => write!(f, "{}, by {policy} ({})", self.mode, self.level),
            None => write!(f, "{}: no PeerAuthentication says anything", self.mode),
        }
    }
}

impl fmt::Display for PolicyAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.policy)?;
        if self.invalid {
            f.write_str(" (wrong, so it fails closed)")?;
        }
        if self.rules.is_empty() {
            f.write_str(", without a rule")?;
        }
        f.write_str(if self.decides { "  <- decides" } else { "" })
    }
}

impl fmt::Display for RuleAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  rule {} {}", self.rule, if self.matches { "matches" } else { "does not match" })?;
        if self.unmet.is_empty() { Ok(()) } else { write!(f, ": {}", self.unmet.join("; ")) }
    }
}
