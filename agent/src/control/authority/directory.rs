//! An authority's files in a directory: read if they are there, made once if they are not, never overwritten.
//!
//! Several agents may start at the same time on one directory. A lock file admits one maker; the four files are written
//! and synced under `.staging`, which a rename to `.ready` makes complete in one step, and only then moved into place.
//! A maker that dies before that step leaves nothing that counts; one that dies after it is finished by the next agent
//! that starts.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::drivers::certs::ca::cacerts::{CA_CERT, CA_KEY, CERT_CHAIN, CaCerts, CaCertsError, ROOT_CERT};
use crate::drivers::certs::ca::issuer::{Issuer, IssuerError, SelfSigned};
use crate::model::identity::TrustDomain;

/// All files of an authority.
const FILES: [&str; 4] = [ROOT_CERT, CA_CERT, CA_KEY, CERT_CHAIN];

/// Held while the files are made.
const LOCK: &str = ".lock";
/// Files that are being written.
const STAGING: &str = ".staging";
/// Files that are complete and on their way into place.
const READY: &str = ".ready";

/// More than any certificate bundle, less than what would hurt.
const MAX_FILE: u64 = 1 << 20;

/// How long another agent may take to make the files.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// Why a directory gives no authority.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file that no authority has.
    #[error("{} is larger than {MAX_FILE} bytes; is it the right file?", .0.display())]
    TooLarge(PathBuf),
    /// Some of the files only. They are never completed or replaced, as they may be somebody's only copy.
    #[error(
        "{} holds only a part of an authority; missing: {missing}. Add that, or move the rest away to have a new one made",
        .directory.display()
    )]
    Partial {
        /// Where.
        directory: PathBuf,
        /// The names of those that are not there.
        missing: String,
    },
    /// A file with the wrong content.
    #[error("{}/{source}", .directory.display())]
    Content {
        /// Where.
        directory: PathBuf,
        /// Which file, and what is wrong with it.
        source: CaCertsError,
    },
    /// Another process holds the lock.
    #[error(
        "{} has been locked for {}; see which process holds it (fuser), it should be done in less than a second",
        .path.display(),
        humantime::format_duration(*.patience)
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        patience: Duration,
    },
    /// No new authority could be made.
    #[error(transparent)]
    Make(#[from] IssuerError),
}

/// Reads the authority in `directory`, making both if there is none. Blocks on files, and for up to ten seconds on
/// another agent that is making the same authority.
///
/// # Errors
/// [`DirectoryError`] when the files cannot be read, are not all there, or are not an authority.
pub fn open(directory: &Path, trust_domain: &TrustDomain, now: SystemTime) -> Result<Issuer, DirectoryError> {
    // A complete set needs no lock: it may be a read-only mount.
    if missing(directory)?.is_empty() {
        return load(directory, trust_domain, now);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io_error("create", directory))?;
    let _lock = lock(&directory.join(LOCK), LOCK_PATIENCE)?;
    finish(directory)?;
    let missing = missing(directory)?;
    if missing.len() == FILES.len() {
        stage(directory, &SelfSigned::create(trust_domain, now)?)?;
        finish(directory)?;
        tracing::info!(directory = %directory.display(), %trust_domain, "made a new certificate authority");
    } else if !missing.is_empty() {
        return Err(DirectoryError::Partial { directory: directory.to_owned(), missing: missing.join(", ") });
    }
    load(directory, trust_domain, now)
}

/// Whether a key file with these permissions is open to users that are neither its owner nor in its group. Groups are
/// left to the administrator: Kubernetes mounts secrets for a group.
pub(super) fn is_exposed(mode: u32) -> bool {
    mode & 0o007 != 0
}

fn missing(directory: &Path) -> Result<Vec<&'static str>, DirectoryError> {
    let mut missing = Vec::new();
    for file in FILES {
        let path = directory.join(file);
        // Not `exists`: a dangling link is somebody's file, too.
        match path.symlink_metadata() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(file),
            Err(error) => return Err(io_error("look at", &path)(error)),
        }
    }
    Ok(missing)
}

fn load(directory: &Path, trust_domain: &TrustDomain, now: SystemTime) -> Result<Issuer, DirectoryError> {
    let key = directory.join(CA_KEY);
    let mode = fs::metadata(&key).map_err(io_error("look at", &key))?.permissions().mode();
    if is_exposed(mode) {
        let mode = format!("{:o}", mode & 0o7777);
        tracing::warn!(path = %key.display(), mode, "the authority's key is open to every user of this node; chmod 600 it");
    }
    let files = CaCerts {
        root_cert: read(&directory.join(ROOT_CERT))?.to_vec(),
        ca_cert: read(&directory.join(CA_CERT))?.to_vec(),
        ca_key: read(&key)?,
        cert_chain: read(&directory.join(CERT_CHAIN))?.to_vec(),
    };
    files
        .issuer(trust_domain, now)
        .map_err(|source| DirectoryError::Content { directory: directory.to_owned(), source })
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, DirectoryError> {
    let file = File::open(path).map_err(io_error("open", path))?;
    // Room for all of it at once: a buffer that grows leaves copies of a key behind.
    let size = file.metadata().map_err(io_error("look at", path))?.len().min(MAX_FILE);
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1));
    file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(io_error("read", path))?;
    if content.len() as u64 > MAX_FILE {
        return Err(DirectoryError::TooLarge(path.to_owned()));
    }
    Ok(content)
}

/// Released when the file is closed, also by a crash.
pub(super) fn lock(path: &Path, patience: Duration) -> Result<File, DirectoryError> {
    let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = open.map_err(io_error("open", path))?;
    let end = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(io_error("lock", path)(error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= end => {
                return Err(DirectoryError::Locked { path: path.to_owned(), patience });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY),
        }
    }
}

/// Writes a complete set beside the place of the files. The caller holds the lock.
fn stage(directory: &Path, authority: &SelfSigned) -> Result<(), DirectoryError> {
    let staging = directory.join(STAGING);
    if staging.symlink_metadata().is_ok() {
        fs::remove_dir_all(&staging).map_err(io_error("remove", &staging))?;
    }
    DirBuilder::new().mode(0o700).create(&staging).map_err(io_error("create", &staging))?;
    for file in FILES {
        let path = staging.join(file);
        let content = if file == CA_KEY { &*authority.key } else { &authority.certificate };
        let mut target = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("create", &path))?;
        target.write_all(content.as_bytes()).and_then(|()| target.sync_all()).map_err(io_error("write", &path))?;
    }
    sync(&staging)?;
    let ready = directory.join(READY);
    fs::rename(&staging, &ready).map_err(io_error("create", &ready))?;
    sync(directory)
}

/// Moves a complete set into place, if there is one. The caller holds the lock.
fn finish(directory: &Path) -> Result<(), DirectoryError> {
    let ready = directory.join(READY);
    if ready.symlink_metadata().is_err() {
        return Ok(());
    }
    for file in FILES {
        let (from, to) = (ready.join(file), directory.join(file));
        if from.symlink_metadata().is_err() {
            continue;
        }
        if to.symlink_metadata().is_ok() {
            let source = io::Error::new(io::ErrorKind::AlreadyExists, "it is there and will not be overwritten");
            return Err(io_error("move an authority that was half made over", &to)(source));
        }
        fs::rename(&from, &to).map_err(io_error("create", &to))?;
    }
    sync(directory)?;
    fs::remove_dir(&ready).map_err(io_error("remove", &ready))
}

/// Makes names in a directory survive a power failure.
fn sync(directory: &Path) -> Result<(), DirectoryError> {
    File::open(directory).and_then(|opened| opened.sync_all()).map_err(io_error("sync", directory))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::Io { action, path, source }
}
