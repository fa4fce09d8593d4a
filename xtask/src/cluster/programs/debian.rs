//! Files of Debian packages, without installing them: no service starts, no root is needed, and nothing of the machine changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache::Cache;
use crate::process::Task;

/// The release whose source package has Kubernetes' servers; later ones have the client alone.
const RELEASE: &str = "bookworm";
/// Used where apt has no source of that release.
const MIRROR: &str = "http://deb.debian.org/debian";
/// What the release is signed with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An archive that answers no one: the network's fault, not the tree's.
#[derive(Debug)]
pub(super) struct Unreachable;

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Debian's archive cannot be reached")
    }
}

impl std::error::Error for Unreachable {}

/// apt with sources, lists and a cache of its own.
pub(super) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// Fetches the lists of the release.
    pub(super) fn open(cache: &Cache) -> Result<Self> {
        let archive = Self { folder: cache.folder("debian-apt")? };
        for place in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(archive.folder.join(place))?;
        }
        let mirror = mirror().unwrap_or_else(|| MIRROR.to_owned());
        let options = if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
        let lines = format!("deb {options}{mirror} {RELEASE} main\ndeb-src {options}{mirror} {RELEASE} main\n");
        fs::write(archive.folder.join("sources.list"), lines)?;
        let mut update = archive.apt(&archive.folder);
        // A list that cannot be fetched is otherwise a warning.
        update.args(["-o", "APT::Update::Error-Mode=any", "update"]);
        let task = Task::new(format!("fetch the package lists of Debian {RELEASE} from {mirror}"), update);
        task.progress().context(Unreachable)?;
        Ok(archive)
    }

    /// Unpacks packages below `place`.
    pub(super) fn unpack(&self, packages: &[&str], place: &Path) -> Result<()> {
        let debs = place.join(".debs");
        fs::create_dir_all(&debs)?;
        let mut download = self.apt(&debs);
        download.arg("download").args(packages);
        Task::new(format!("fetch {}", packages.join(" ")), download).progress().context(Unreachable)?;
        for entry in fs::read_dir(&debs)? {
            let mut unpack = Command::new("dpkg");
            unpack.arg("-x").arg(entry?.path()).arg(place);
            Task::new("unpack a package", unpack).output()?;
        }
        Ok(fs::remove_dir_all(debs)?)
    }

    /// Unpacks the upstream part of a source package into `place`. apt has checked its sum against the signed list.
    pub(super) fn source(&self, package: &str, place: &Path) -> Result<()> {
        let download_to = place.join(".source");
        fs::create_dir_all(&download_to)?;
        let mut download = self.apt(&download_to);
        download.args(["source", "--download-only", package]);
        Task::new(format!("fetch the source of {package}"), download).progress().context(Unreachable)?;
        let original = fs::read_dir(&download_to)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().contains(".orig.tar."))
            .with_context(|| format!("the source package {package} has no original archive"))?;
        let mut unpack = Command::new("tar");
        unpack.arg("-xf").arg(original).arg("-C").arg(place).arg("--strip-components=1");
        Task::new(format!("unpack the source of {package}"), unpack).progress()?;
        Ok(fs::remove_dir_all(download_to)?)
    }

    fn apt(&self, directory: &Path) -> Command {
        let mut command = Command::new("apt-get");
        let at = |part: &str| self.folder.join(part).display().to_string();
        for (name, value) in [
            ("Dir::Etc::SourceList", at("sources.list")),
            ("Dir::Etc::SourceParts", "/dev/null".into()),
            ("Dir::State::Lists", at("lists")),
            ("Dir::Cache", at("cache")),
            ("Acquire::Languages", "none".into()),
            ("Acquire::Retries", "3".into()),
            // The cache may be in root's home, where apt's own user cannot write.
            ("APT::Sandbox::User", "root".into()),
        ] {
            command.arg("-o").arg(format!("{name}={value}"));
        }
        command.arg("-q").env("LC_ALL", "C").current_dir(directory);
        command
    }
}

/// Unpacked packages in the cache; `ready` names files that must be among theirs.
pub(crate) fn unpacked(cache: &Cache, name: &str, packages: &[&str], ready: &[&str]) -> Result<PathBuf> {
    let whole = |place: &Path| ready.iter().all(|file| place.join(file).exists());
    cache.entry(name, whole, |place| Archive::open(cache)?.unpack(packages, place))
}

/// Why packages cannot be had here.
pub(super) fn obstacle() -> Option<String> {
    let found = |program: &str| crate::workspace::on_path(program).is_some();
    (!found("apt-get") || !found("dpkg"))
        .then(|| format!("no apt-get and dpkg, which fetch programs from Debian {RELEASE}"))
}

/// The mirror that the machine's own apt uses for this release.
fn mirror() -> Option<String> {
    let mut ask = Command::new("apt-get");
    ask.args(["indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Identifier: Packages"]);
    mirror_among(&Task::new("ask apt for its sources", ask).output().ok()?)
}

fn mirror_among(answer: &str) -> Option<String> {
    let prefix = format!("{RELEASE} main ");
    let uri = answer.lines().find_map(|line| line.strip_prefix(&prefix))?.trim_end_matches('/');
    (!uri.is_empty()).then(|| uri.to_owned())
}

/// The folder of libraries for this machine's processor, as Debian calls it.
pub(crate) fn triplet() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

/// An error unless `place` holds `file`.
pub(super) fn expect(place: &Path, file: &str) -> Result<PathBuf> {
    let path = place.join(file);
    ensure!(
        path.exists(),
        "{} is missing: another release of the package came than Debian {RELEASE}'s",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_mirror_of_the_release_is_used() {
        let answer = "bookworm-updates main http://a.example/debian/\nbookworm main http://b.example/debian/\n";
        assert_eq!(mirror_among(answer).unwrap(), "http://b.example/debian");
        assert_eq!(mirror_among("trixie main http://a.example/debian/\n"), None);
    }
}
