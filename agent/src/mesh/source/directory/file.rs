//! One manifest file: what of it serves, and what is wrong with its newest version.

use std::sync::Arc;

use crate::mesh::source::problem::{Effect, Problem};

use super::decode::{Decoded, Located};

/// What is known of a file.
#[derive(Debug, Default)]
pub(super) struct ManifestFile {
    /// The objects that serve.
    pub(super) objects: Vec<Located>,
    /// What is wrong with the newest version.
    pub(super) problems: Vec<Problem>,
}

impl ManifestFile {
    /// Takes a new version. With anything wrong in it, it changes nothing but the problems, unless nothing serves yet.
    pub(super) fn take(&mut self, decoded: Decoded) {
        self.problems = decoded.problems;
        if self.problems.is_empty() || self.objects.is_empty() {
            self.objects = decoded.objects;
        } else {
            self.mark();
        }
    }

    /// Notes that the newest version could not even be read.
    pub(super) fn unreadable(&mut self, file: &Arc<str>, line: Option<u64>, message: String) {
        self.problems = vec![Problem { file: Some(Arc::clone(file)), line, message, ..Problem::default() }];
        if !self.objects.is_empty() {
            self.mark();
        }
    }

    fn mark(&mut self) {
        for problem in &mut self.problems {
            problem.effect = Effect::LastGoodServes;
        }
    }
}
