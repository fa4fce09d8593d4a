//! Who may talk to whom, on real connections.

mod attempts;
mod explain;
mod live;
mod modes;
mod probes;
mod rows;

pub(crate) use attempts::wait_refused;
