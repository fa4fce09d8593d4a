//! The directory source with real files, and a clock that the tests turn.

mod fixture;
mod hostile;
mod last_good;
mod memory;
mod policies;
mod running;
mod scale;
mod scanning;
mod settling;
mod text;
