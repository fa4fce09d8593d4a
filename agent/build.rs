//! Puts the eBPF object into the binary: `SOTTO_EBPF_OBJECT`, else `sotto-ebpf.o` in the target directory, where
//! `cargo xtask build` writes it. Without either the binary builds all the same and says at start what is missing.

use std::env::var_os;
use std::path::{Path, PathBuf};
use std::{fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOTTO_EBPF_OBJECT");
    let object = match var_os("SOTTO_EBPF_OBJECT") {
        Some(path) => PathBuf::from(path),
        None => placeholder()?,
    };
    println!("cargo::rerun-if-changed={}", object.display());
    let out = PathBuf::from(var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("sotto-ebpf.o");
    fs::write(out, fs::read(&object)?)
}

/// The object in the target directory; an empty one is made where there is none, because cargo would otherwise run this
/// script, and build the crate, every time.
fn placeholder() -> io::Result<PathBuf> {
    let target = var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new("../target").to_owned(), PathBuf::from);
    fs::create_dir_all(&target)?;
    let object = target.join("sotto-ebpf.o");
    if !object.exists() {
        fs::write(&object, [])?;
    }
    Ok(object)
}
