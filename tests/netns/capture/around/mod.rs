//! Ways to open a TCP connection that are not a plain connect(): none leads around the capture.

mod families;
mod fast_open;
mod hands;
mod sockets;
mod way;
