//! Who may talk to whom, on real connections.

mod attempts;
mod live;
mod modes;
mod probes;
mod rows;
