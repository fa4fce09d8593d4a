//! The admin pages of a node agent, one file per page that takes more than a few lines.

pub mod connections;
pub mod routes;

mod dump;
mod logging;
mod observe;
mod profiles;
