//! The maps that the agent reads and writes beside those of enrolment, each behind what it is for.

pub(super) mod counters;
pub(super) mod direct;
pub(super) mod kubelets;
pub(super) mod services;
pub(super) mod sockets;
pub(super) mod verdicts;
