//! What happens to a connection: pure functions of what the kernel shows the programs, tested on the host.

pub mod direct;
pub mod redirect;
pub mod tcp;

#[cfg(test)]
mod tests;
