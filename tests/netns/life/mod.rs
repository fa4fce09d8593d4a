//! Agents that crash, end and start again, and what they leave behind.

mod agent_away;
mod cluster;
mod cni;
mod drain;
mod leftovers;
mod restart;
