//! The list of targets.

use std::fs;
use std::path::Path;

use crate::{ca, call, certs, cni, manifests, redirect, text, tunnel};

/// One reader of hostile bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its libFuzzer program.
    pub name: &'static str,
    /// Reads the bytes, and panics when something does not hold that must hold for all.
    pub check: fn(&[u8]),
    /// Inputs that reach far.
    starts: fn() -> Vec<Vec<u8>>,
    /// Pieces that inputs are made of.
    pub words: &'static [&'static str],
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::new("authority", text::authority, text::authority_seeds, text::ADDRESS_WORDS),
        Self::new("baggage", text::baggage, text::baggage_seeds, text::HEADER_WORDS),
        Self::new("ca_files", ca::files, ca::file_seeds, ca::WORDS),
        Self::new("certificate", certs::certificate, certs::certificate_seeds, certs::WORDS),
        Self::new("certificate_call", call::call, call::seeds, call::WORDS),
        Self::new("cni", cni::cni, cni::seeds, cni::WORDS),
        Self::new("forwarded", text::forwarded, text::forwarded_seeds, text::HEADER_WORDS),
        Self::new("frames", tunnel::frames, tunnel::frame_seeds, &[]),
        Self::new("identity", text::identity, text::identity_seeds, text::ADDRESS_WORDS),
        Self::new("manifests", manifests::manifests, manifests::seeds, manifests::WORDS),
        Self::new("proxy_status", text::proxy_status, text::proxy_status_seeds, text::HEADER_WORDS),
        Self::new("redirect", redirect::redirect, redirect::seeds, &[]),
        Self::new("signing_request", certs::signing_request, certs::request_seeds, certs::WORDS),
        Self::new("traceparent", text::traceparent, text::traceparent_seeds, &["00-", "-01", "-"]),
        Self::new("tunnel_server", tunnel::server, tunnel::server_seeds, tunnel::WORDS),
    ];

    const fn new(
        name: &'static str,
        check: fn(&[u8]),
        starts: fn() -> Vec<Vec<u8>>,
        words: &'static [&'static str],
    ) -> Self {
        Self { name, check, starts, words }
    }

    /// Where mutation starts: what once broke the target, then what its module makes.
    #[must_use]
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(self.name));
        seeds.extend((self.starts)());
        seeds
    }
}

/// Runs the target called `name`; for the libFuzzer programs.
///
/// # Panics
/// When the target finds something, or when there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let target = Target::ALL.iter().find(|target| target.name == name).expect("a target of that name");
    (target.check)(data);
}

/// The contents of the files in a folder, by name; nothing if there is no such folder.
pub(crate) fn files(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}
