//! Services: which endpoint is chosen, and what happens when it does not answer.

mod endpoints;
mod failover;
