//! What applications do: sites that serve and connect, connections with deadlines, servers that remember their clients.

mod conn;
mod external;
mod server;
mod site;

pub use conn::Conn;
pub use external::External;
pub use server::{Server, http_response};
pub use site::Site;

pub(crate) use server::Servers;
