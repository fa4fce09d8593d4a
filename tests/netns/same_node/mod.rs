//! Two enrolled pods on one node: connections that go straight from one to the other.

mod agent_away;
mod home;
mod hostile;
mod services;
mod told;
mod usual;
mod verdicts;
