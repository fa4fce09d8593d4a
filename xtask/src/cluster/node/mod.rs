//! One node: a network namespace on the bridge, seen from outside, and what runs in its other namespaces.

pub(super) mod cgroups;
mod config;
pub(super) mod inside;
pub(super) mod outside;
