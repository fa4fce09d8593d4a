//! The answer for people.

use std::fmt;
use std::net::SocketAddr;

use super::answer::{Answer, MutualTls, PolicyAnswer, RuleAnswer, Side};
use super::step::{Outcome, Stage, Step};

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.iter().find(|step| step.outcome == Outcome::Stops) {
            Some(step) if step.stage != Stage::Policy => {
                writeln!(f, "stops at {}: {}", step.stage.name(), step.what)?;
            }
            Some(_) | None => writeln!(f, "{}", self.verdict)?,
        }
        writeln!(f)?;
        row(f, "from", &self.source)?;
        row(f, "to", &self.destination)?;
        for (index, step) in self.path.iter().enumerate() {
            row(f, if index == 0 { "path" } else { "" }, step)?;
        }
        if self.destination.identity.is_some() {
            row(f, "mutual TLS", &self.mtls)?;
        }
        if self.policies.is_empty() && self.destination.identity.is_some() {
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

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Ok => "ok",
            Outcome::Perhaps => "?",
            Outcome::Stops => "STOP",
        };
        write!(f, "{outcome:<5}{:<11}{}", self.stage.name(), self.what)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.pod, &self.node) {
            (Some(pod), Some(node)) => write!(f, "{pod} on {node}")?,
            // A destination that is no pod is an address, whatever proves nothing there.
            _ => match self.port {
                Some(port) => return SocketAddr::new(self.ip, port).fmt(f),
                None => f.write_str("no pod of the mesh")?,
            },
        }
        match self.port {
            Some(port) => write!(f, ", {}", SocketAddr::new(self.ip, port))?,
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
