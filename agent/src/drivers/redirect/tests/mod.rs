//! The programs in the kernel, with real sockets in real network namespaces. Skipped, with a word about it, where the process
//! is not root or the binary has no programs.

mod frames;
mod inbound;
mod lab;
mod lifetime;
mod outbound;
mod reuse;
