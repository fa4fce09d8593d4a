//! `sotto check`: whether sotto can work here, and whether it does.

pub mod cluster;
pub mod machine;
pub mod network;
pub mod running;
