//! Two enrolled pods on one node: connections that go straight from one to the other.

mod agent_away;
mod hostile;
mod home;
mod services;
mod told;
mod usual;
mod verdicts;
