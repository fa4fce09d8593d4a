//! What crosses the wire: captures, the TCP streams in them, and whether they are TLS.

mod capture;
mod marker;
mod pcap;
mod streams;
mod tls;
mod view;

pub use capture::Capture;
pub use marker::Marker;
pub(crate) use pcap::read as read_pcap;
pub use streams::Stream;
pub use view::{Hit, Wire};
