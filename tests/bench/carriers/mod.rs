//! The contestants: what may carry the traffic between two pods.

pub(crate) mod contestant;
mod envoy;
mod envoy_config;
mod identity;
mod plain;
mod sotto;
mod ztunnel;
