//! What applications do: sites that serve and connect, connections with deadlines, servers that remember their clients.

pub(crate) mod cgroup;
mod conn;
mod external;
mod server;
mod site;

pub use cgroup::{Cgroup, dial_from};
pub use conn::Conn;
pub use external::External;
pub use server::{Server, http_response};
pub use site::Site;

pub(crate) use server::Servers;
