//! Listing the directory and reading its files: all of the file system that this source touches.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use crate::mesh::source::field::shorten;

use super::scan::{Fingerprint, Listing, Sighting};

/// The largest file that is read, in bytes.
pub(super) const MAX_FILE: u64 = 8 << 20;

/// The most manifests that are read.
const MAX_FILES: usize = 4096;

/// The most that all manifests may hold, in bytes.
const MAX_TOTAL: u64 = 256 << 20;

/// Tells a directory from another one in its place: device and inode.
pub(super) type Place = (u64, u64);

/// What a look at the directory gave.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) place: Place,
    pub(super) listing: Listing,
    /// How long each file has been as it is, by the file system's clock; zero where that lies in the future.
    pub(super) ages: BTreeMap<Arc<str>, Duration>,
}

/// Why the directory as a whole cannot be used.
#[derive(Debug, Error)]
pub(super) enum ListError {
    /// It is not there, no directory, or may not be read.
    #[error("the directory cannot be read: {0}")]
    Io(#[from] io::Error),
    /// More than this source is made for.
    #[error("the directory holds more than {MAX_FILES} manifests: put more of them into one file")]
    TooMany,
    /// More than this source is made for.
    #[error("the manifests of the directory are larger than {} MiB together", MAX_TOTAL >> 20)]
    TooLarge,
}

/// Why a file was not read.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    /// It is not the version any more that was asked for.
    #[error("changed while it was read")]
    Changed,
    /// It is larger than [`MAX_FILE`].
    #[error("is larger than {} MiB: split it into several files", MAX_FILE >> 20)]
    TooLarge,
    /// It is not UTF-8, from this line (counted from 1) on.
    #[error("is not UTF-8 text")]
    NotText(u64),
    /// The file system says no.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Lists the manifests of a directory.
pub(super) fn list(directory: &Path) -> Result<Look, ListError> {
    let metadata = fs::metadata(directory)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut look = Look { place: (metadata.dev(), metadata.ino()), listing: Listing::new(), ages: BTreeMap::new() };
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let file_name = entry?.file_name();
        let lossy = file_name.to_string_lossy();
        if !is_manifest(&lossy) {
            continue;
        }
        let odd = file_name.to_str().is_none() || lossy.chars().any(char::is_control);
        let name: Arc<str> = if odd { lossy.escape_debug().to_string().into() } else { lossy.as_ref().into() };
        let sighting = if odd {
            Sighting::Unreadable("its name is not plain text: rename it".to_owned())
        } else {
            look_at(&directory.join(&file_name))
        };
        if let Sighting::File(version) = sighting {
            look.ages.insert(Arc::clone(&name), now.saturating_sub(since_epoch(version.changed)));
            total += version.length.min(MAX_FILE);
        }
        look.listing.insert(name, sighting);
        if look.listing.len() > MAX_FILES {
            return Err(ListError::TooMany);
        }
    }
    if total > MAX_TOTAL { Err(ListError::TooLarge) } else { Ok(look) }
}

/// Reads one version of a file, and only that: before and after the read the open file has to be it.
pub(super) fn read(path: &Path, version: Fingerprint) -> Result<String, ReadError> {
    if version.length > MAX_FILE {
        return Err(ReadError::TooLarge);
    }
    let file = File::open(path)?;
    let unchanged = |file: &File| Ok::<bool, io::Error>(fingerprint(&file.metadata()?) == version);
    if !unchanged(&file)? {
        return Err(ReadError::Changed);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(version.length).unwrap_or(0));
    (&file).take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if !unchanged(&file)? || bytes.len() as u64 != version.length {
        return Err(ReadError::Changed);
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        ReadError::NotText(1 + good.iter().filter(|byte| **byte == b'\n').count() as u64)
    })
}

fn is_manifest(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn look_at(path: &Path) -> Sighting {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Sighting::File(fingerprint(&metadata)),
        // Opening a pipe or a device could hang or worse.
        Ok(_) => Sighting::Unreadable("is not a regular file".to_owned()),
        Err(error) => Sighting::Unreadable(format!("cannot be read: {}", shorten(&error.to_string()))),
    }
}

fn since_epoch((seconds, nanoseconds): (i64, i64)) -> Duration {
    Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0))
}

fn fingerprint(metadata: &Metadata) -> Fingerprint {
    Fingerprint {
        device: metadata.dev(),
        inode: metadata.ino(),
        length: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}
