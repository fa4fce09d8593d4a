//! Pods joining and leaving the mesh on this node.
