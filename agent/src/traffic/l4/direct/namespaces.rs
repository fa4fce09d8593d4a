//! The sockets of several pods, one question after the other. Not to be kept: it keeps the pods' network namespaces alive.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::Arc;

use crate::sys::netns::{Netns, NetnsCookie};
use crate::sys::sock_diag::SockDiag;

/// A way to ask each namespace, opened once.
#[derive(Default)]
pub(super) struct Namespaces(HashMap<NetnsCookie, SockDiag>);

impl Namespaces {
    pub(super) fn of(&mut self, netns: &Arc<Netns>) -> io::Result<&mut SockDiag> {
        match self.0.entry(netns.cookie()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => Ok(new.insert(netns.run(SockDiag::open)??)),
        }
    }
}
