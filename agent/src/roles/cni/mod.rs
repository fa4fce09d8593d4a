//! `sotto cni`: the chained CNI plugin.

pub mod plugin;
#[cfg(test)]
mod tests;
