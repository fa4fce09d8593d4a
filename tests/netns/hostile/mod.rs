//! Peers and pods that mean harm or want too much, and what is left of them afterwards.

mod intruder;
mod leaks;
mod peers;
mod pods;
mod usage;
