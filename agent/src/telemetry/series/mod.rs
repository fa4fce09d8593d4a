//! The counters of connections between parties: looked up once per connection, counted in without a lock.
//!
//! One table has every series. Each thread has a small cache in front of it that knows parties by where they are in memory, so that
//! a new connection between parties that have talked before costs the hash of a few words. A series that no connection uses and that
//! has not been touched for a while is dropped; past a number of series all others count together, under `overflow`.

mod cache;
mod table;
#[cfg(test)]
mod tests;

pub use cache::forget_parties;
pub use table::{ConnectionSeries, Counted, Limits};
