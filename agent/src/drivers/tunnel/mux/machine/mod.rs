//! The protocol's state: which streams there are, how much each may send, and what the other side has been told. Pure: bytes and
//! the time come in, bytes and events go out.

mod event;
mod protocol;
mod receive;
mod stream;

pub use event::Event;
pub use protocol::{EARLY, FIRST_CREDIT, Limits, Machine, Side};
pub use stream::Stream;
