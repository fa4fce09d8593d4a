//! The programs that a cluster is made of, the one that renders the Helm chart, and Prometheus, from Debian's archive: unpacked or built
//! into the cache, never installed.

pub(crate) mod debian;
mod kubernetes;
mod needed;
mod prometheus;
mod renderer;

pub(crate) use needed::{Extent, Programs, is_unreachable, obstacles};
pub(crate) use prometheus::{PROMETHEUS, prometheus, prometheus_obstacle};
pub(crate) use renderer::{renderer, renderer_obstacles};
