//! Where processor time goes and what memory is for, by call stack.

pub mod cpu;
pub mod heap;
pub mod modules;

mod unwind;
