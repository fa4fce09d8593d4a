//! What a pod's network namespace is given while the agent carries its connections.

pub mod loopback;
mod netlink;
pub mod reply_path;
