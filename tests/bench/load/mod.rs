//! What puts load on a connection or many, and reads what came of it.

pub(crate) mod bulk;
pub(crate) mod http;
pub(crate) mod idle;
pub(crate) mod paced;
mod program;
