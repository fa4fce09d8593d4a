//! What a machine needs before it can build and test, and how it gets it.

mod compiler;
mod linker;
pub(crate) mod packages;
pub(crate) mod prepare;

pub(crate) use packages::root as is_root;
pub(crate) use prepare::Toolchain;
