//! The mesh from a directory of Kubernetes manifests: standalone nodes, tests.
//!
//! ```text
//! inotify ─ hint ┐
//!                ├─> list ─> scan (what is settled?) ─> decode ─> file (last good) ─> merge ─> convert ─> MeshState
//! rescan ─ truth ┘
//! ```
//!
//! - Read are `*.yaml`, `*.yml` and `*.json` in the directory itself, through symbolic links, except names with a dot in front.
//! - A file counts once it has held still for a moment ([`scan::SETTLE_NEW`], [`scan::SETTLE_CHANGED`]): the first half of a
//!   manifest is often a valid manifest, and a pod that vanishes from the mesh would be reached in clear text.
//! - A version of a file with anything wrong in it changes nothing: what was there before keeps serving, and the problems
//!   are reported. Only a file that serves nothing yet gives what is good in it.
//! - A directory that cannot be listed changes nothing either.

pub mod decode;
pub mod manifests;
pub mod scan;
pub mod watch;

mod documents;
mod file;
mod items;
mod list;
mod locate;
mod merge;
mod yaml;

#[cfg(test)]
mod tests;
