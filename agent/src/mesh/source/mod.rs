//! Where the state of the mesh comes from.
