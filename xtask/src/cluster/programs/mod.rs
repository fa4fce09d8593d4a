//! The programs that a cluster is made of, from Debian's archive: unpacked or built into the cache, never installed.

mod debian;
mod kubernetes;
mod needed;

pub(crate) use needed::{Extent, Programs, is_unreachable, obstacles};
