//! What the agent puts on its node for others to use: the CNI plugin and its place in the chain.

pub mod keep;
pub mod node;
#[cfg(test)]
mod tests;
