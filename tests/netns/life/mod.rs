//! Agents that crash, end and start again, and what they leave behind.

mod agent_away;
mod cluster;
mod drain;
mod leftovers;
mod restart;
