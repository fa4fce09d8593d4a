//! The program that renders Helm charts for tests: built from the tree with the libraries that Helm is made of, which Debian
//! has the sources of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::debian::Archive;
use super::kubernetes::GO_ROOT;
use crate::cache::Cache;
use crate::process::Task;
use crate::workspace::on_path;

/// The compiler, and the libraries that `render.go` imports with those that they import.
const PACKAGES: [&str; 17] = [
    "golang-1.19-go",
    "golang-1.19-src",
    "golang-github-google-uuid-dev",
    "golang-github-huandu-xstrings-dev",
    "golang-github-imdario-mergo-dev",
    "golang-github-masterminds-goutils-dev",
    "golang-github-masterminds-semver-dev",
    "golang-github-masterminds-sprig-dev",
    "golang-github-mitchellh-copystructure-dev",
    "golang-github-mitchellh-reflectwalk-dev",
    "golang-github-shopspring-decimal-dev",
    "golang-github-spf13-cast-dev",
    "golang-github-xeipuuv-gojsonpointer-dev",
    "golang-github-xeipuuv-gojsonreference-dev",
    "golang-github-xeipuuv-gojsonschema-dev",
    "golang-golang-x-crypto-dev",
    "golang-gopkg-yaml.v3-dev",
];
const PROGRAM: &str = "render";

/// Builds `source` unless the same was built before; compiler and libraries are not kept.
pub(crate) fn renderer(source: &Path) -> Result<PathBuf> {
    let text = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    let digest: String = Sha256::digest(&text).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let cache = Cache::open()?;
    let name = format!("chart-renderer-{digest}-{}", std::env::consts::ARCH);
    let place = cache.entry(&name, |place| place.join(PROGRAM).is_file(), |place| build(&cache, source, place))?;
    Ok(place.join(PROGRAM))
}

/// Why this machine cannot have it; empty when it can, as far as one can tell without asking the network.
pub(crate) fn renderer_obstacles() -> Vec<String> {
    let missing = ["apt-get", "dpkg"].into_iter().filter(|program| on_path(program).is_none());
    missing.map(|program| format!("no {program}, which fetches Go and Helm's libraries from Debian")).collect()
}

fn build(cache: &Cache, source: &Path, place: &Path) -> Result<()> {
    let workshop = place.join("workshop");
    fs::create_dir_all(&workshop)?;
    Archive::open(cache)?.unpack(&PACKAGES, &workshop)?;
    let root = workshop.join(GO_ROOT);
    let go = root.join("bin/go");
    let mut command = match on_path("nice") {
        Some(nice) => {
            let mut command = Command::new(nice);
            command.arg(go);
            command
        }
        None => Command::new(go),
    };
    command.args(["build", "-o"]).arg(place.join(PROGRAM)).arg(source).current_dir(place);
    command.env("GOROOT", root).env("GOPATH", workshop.join("usr/share/gocode"));
    command.env("GOCACHE", workshop.join("gocache")).env("GO111MODULE", "off").env("GOENV", "off");
    command.env("CGO_ENABLED", "0").env_remove("GOFLAGS");
    Task::new("build the program that renders the chart (once)", command).progress()?;
    Ok(fs::remove_dir_all(workshop)?)
}
