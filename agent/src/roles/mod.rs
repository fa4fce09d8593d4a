//! Who runs what: one file per subcommand; `agent` is what every node role has in common.

pub mod agent;
pub mod authority;
pub mod cni;
pub mod controller;
pub mod diagnose;
pub mod node;
pub mod pages;
pub mod standalone;

mod rest;
mod signals;
