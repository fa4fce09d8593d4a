//! The path that a manifest gives.

use super::{Locate, LocateError, Located, Sought};
use crate::sys::netns::Netns;

/// Takes pods at their manifests' word. Only where those who write manifests are trusted with the node.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByAnnotation;

impl Locate for ByAnnotation {
    fn can_find(&self, sought: Sought<'_>) -> bool {
        sought.path.is_some()
    }

    fn open(&mut self, sought: Sought<'_>) -> Result<Located, LocateError> {
        let path = sought.path.unwrap_or("".as_ref()).to_owned();
        match Netns::open(&path) {
            Ok(netns) => Ok(Located { netns, path }),
            Err(source) => Err(LocateError::Path { path, source }),
        }
    }

    fn has_moved(&mut self, sought: Sought<'_>, netns: &Netns) -> bool {
        sought.path.is_some_and(|path| !netns.is_at(path))
    }
}
