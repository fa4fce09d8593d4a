//! What the agent refuses, contains and takes away again: hostile peers, hostile pods, what ends and must leave nothing.

mod hostile_peers;
mod hostile_pods;
mod intruder;
mod leaks;
mod leftovers;
mod usage;
