//! Peers and pods that mean harm or want too much, and what is left of them afterwards.

mod frames;
mod hbone;
mod http2;
mod intruder;
mod leaks;
mod mux;
mod passport;
mod peers;
mod pods;
mod scene;
mod usage;
