//! Debian packages: which are missing, and installing them where we may.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::Once;

use anyhow::{Result, bail};

use crate::cache::Cache;
use crate::process::Task;
use crate::workspace::on_path;

/// Seconds that apt waits for another apt.
const APT_LOCK_SECONDS: u32 = 600;

/// Whether this is a Debian, or something that is kept like one.
pub(crate) fn debian() -> bool {
    on_path("apt-get").is_some() && on_path("dpkg-query").is_some()
}

/// Whether we run as root (in our own user namespace).
pub(crate) fn root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Those of `names` that are not installed.
pub(crate) fn missing<'a>(names: &[&'a str]) -> Result<Vec<&'a str>> {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${Package} ${db:Status-Abbrev}\n"]).args(names);
    // It ends with an error when it does not know one of the names: what it prints is the answer.
    let answer = query.output().map_err(|error| anyhow::anyhow!("could not ask dpkg-query: {error}"))?;
    Ok(not_installed(names, &String::from_utf8_lossy(&answer.stdout)))
}

fn not_installed<'a>(names: &[&'a str], answer: &str) -> Vec<&'a str> {
    let installed = |name: &str| {
        answer.lines().any(|line| line.split_once(' ').is_some_and(|(n, s)| n == name && s.starts_with("ii")))
    };
    names.iter().copied().filter(|name| !installed(name)).collect()
}

/// Whether apt can install all of `names`; asks the network once when the lists on disk do not know them.
pub(crate) fn offered(cache: &Cache, names: &[&str]) -> Result<bool> {
    if candidates(names)? {
        return Ok(true);
    }
    if !root() {
        return Ok(false);
    }
    let _lock = cache.lock("apt")?;
    update();
    candidates(names)
}

fn candidates(names: &[&str]) -> Result<bool> {
    let mut policy = Command::new("apt-cache");
    policy.arg("policy").args(names).env("LC_ALL", "C");
    let answer = Task::new("ask apt-cache", policy).output()?;
    Ok(count_candidates(&answer) == names.len())
}

fn count_candidates(answer: &str) -> usize {
    answer.lines().filter_map(|line| line.trim().strip_prefix("Candidate: ")).filter(|found| *found != "(none)").count()
}

/// Installs what is missing of `names`. `purpose` completes "to …".
pub(crate) fn ensure(cache: &Cache, names: &[&str], purpose: &str) -> Result<()> {
    if missing(names)?.is_empty() {
        return Ok(());
    }
    if !root() {
        let wanted = missing(names)?.join(" ");
        bail!(
            "to {purpose}, Debian packages are missing: have root run `apt-get install --no-install-recommends {wanted}`"
        );
    }
    let _lock = cache.lock("apt")?;
    let wanted = missing(names)?;
    if wanted.is_empty() {
        return Ok(());
    }
    update();
    let mut install = apt();
    // Never at the price of something that is there: Debian's own rustc and rustup conflict with rustc-web.
    install.args(["install", "--yes", "--no-install-recommends", "--no-remove"]).args(&wanted);
    Task::new(format!("install {} to {purpose}", wanted.join(" ")), install)
        .remedy(
            "if apt cannot reach its servers, mend /etc/apt/sources.list; if it would remove a package (Debian's `rustc` or \
             `rustup` beside rustc-web), remove that one yourself or set SOTTO_BPF_TOOLCHAIN=nightly",
        )
        .progress()
}

/// Once a run. Failing is no error yet: one dead source among several is common, and the lists may be good enough.
fn update() {
    static DONE: Once = Once::new();
    DONE.call_once(update_now);
}

fn update_now() {
    let mut update = apt();
    update.arg("update");
    if let Err(error) = Task::new("refresh the package lists", update).progress() {
        println!("warning: {error:#}");
    }
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-q", "-o", "Dpkg::Use-Pty=0", "-o", &format!("DPkg::Lock::Timeout={APT_LOCK_SECONDS}")]);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fully_installed_packages_count() {
        let answer = "tcpdump ii \nzlib1g-dev rc \nlibzstd-dev ii \nlibzstd un \n";
        let names = ["tcpdump", "zlib1g-dev", "libzstd-dev", "libzstd", "unheard-of"];
        assert_eq!(not_installed(&names, answer), ["zlib1g-dev", "libzstd", "unheard-of"]);
    }

    #[test]
    fn a_package_that_apt_only_knows_by_name_is_not_offered() {
        let answer = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0\nllvm-99-dev:\n  Candidate: (none)\n";
        assert_eq!(count_candidates(answer), 1);
    }
}
