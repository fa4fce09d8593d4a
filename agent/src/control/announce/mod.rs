//! What the cluster is told of this node's pods: the annotation on those that are carried, and Events about those that cannot be.
//!
//! `decide` is pure; `run` does the writing. Level-triggered: what ought to be is compared with what is, again and again.

pub mod decide;
pub mod run;
