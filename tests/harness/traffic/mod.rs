//! What applications do: sites that serve and connect, connections with deadlines, servers that remember their clients.

mod conn;
mod server;
mod site;

pub use conn::Conn;
pub use server::{Server, http_response};
pub use site::Site;

pub(crate) use server::Servers;
