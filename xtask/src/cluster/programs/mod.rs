//! The programs that a cluster is made of, and the one that renders the Helm chart, from Debian's archive: unpacked or built into the cache, never installed.

pub(crate) mod debian;
mod kubernetes;
mod needed;
mod renderer;

pub(crate) use needed::{Extent, Programs, is_unreachable, obstacles};
pub(crate) use renderer::{renderer, renderer_obstacles};
