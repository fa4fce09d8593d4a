//! One step on the way of a connection.

use serde::{Deserialize, Serialize};

/// What is looked at, in the order in which a connection meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Whether the client's connections are captured.
    Enrolment,
    /// What the address and the port stand for.
    Service,
    /// Who of those behind it is taken.
    Endpoint,
    /// Whom the client proves to be.
    Identity,
    /// How the bytes get to the server's node.
    Tunnel,
    /// Whether the server's pod takes what arrives.
    Arrival,
    /// Whether it is let in.
    Policy,
}

/// How a step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// As it should.
    Ok,
    /// As far as this agent can tell, or not for every endpoint.
    Perhaps,
    /// The connection goes no further.
    Stops,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What is looked at.
    pub stage: Stage,
    /// How it goes.
    pub outcome: Outcome,
    /// In words.
    pub what: String,
}

impl Stage {
    /// As it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Enrolment => "enrolment",
            Self::Service => "service",
            Self::Endpoint => "endpoint",
            Self::Identity => "identity",
            Self::Tunnel => "tunnel",
            Self::Arrival => "arrival",
            Self::Policy => "policy",
        }
    }
}

impl Step {
    /// A step that goes as it should.
    pub(super) fn ok(stage: Stage, what: impl Into<String>) -> Self {
        Self { stage, outcome: Outcome::Ok, what: what.into() }
    }

    /// A step of which this agent knows only a part.
    pub(super) fn perhaps(stage: Stage, what: impl Into<String>) -> Self {
        Self { stage, outcome: Outcome::Perhaps, what: what.into() }
    }

    /// The last step of a connection.
    pub(super) fn stops(stage: Stage, what: impl Into<String>) -> Self {
        Self { stage, outcome: Outcome::Stops, what: what.into() }
    }
}
