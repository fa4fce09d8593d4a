//! What applications do: sites that serve and connect, connections with deadlines, servers that remember their clients.

pub(crate) mod cgroup;
mod conn;
mod server;
mod site;

pub use cgroup::{Cgroup, dial_from};
pub use conn::Conn;
pub use server::{Server, http_response};
pub use site::Site;

pub(crate) use server::Servers;
