//! What becomes of connections on their way: how they end, and those with whom one side does not belong to the mesh.

mod closing;
mod plain;
