//! Container images, written without a container engine.

pub(crate) mod archive;
pub(crate) mod sotto;
