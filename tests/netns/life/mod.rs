//! Agents that crash, end and start again, and what they leave behind; what they tell operators while they run.

mod agent_away;
mod cluster;
mod cni;
mod drain;
mod leftovers;
mod operators;
mod restart;
