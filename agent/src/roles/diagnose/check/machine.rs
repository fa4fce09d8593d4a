//! The machine: kernel, privileges, file systems, clock.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::control::diagnose::check::Finding;
use crate::drivers::redirect::{self, Missing};
use crate::sys::{clock, limits};

/// The oldest kernel that has all that the programs use.
const OLDEST_KERNEL: (u32, u32) = (5, 17);

/// Every relayed connection holds two descriptors.
const FEW_FILES: u64 = 65_536;

/// Nobody's clock is right who thinks that it is earlier than this: 2025-01-01.
const EARLIEST: Duration = Duration::from_secs(1_735_689_600);

/// Looks at everything that needs no network.
pub(super) fn check(cgroup: Option<PathBuf>) -> Vec<Finding> {
    let mut findings = vec![kernel()];
    findings.extend(place(cgroup));
    findings.push(programs());
    findings.push(open_files());
    findings.push(clock(SystemTime::now()));
    findings
}

fn kernel() -> Finding {
    const CHECK: &str = "kernel";
    match nix::sys::utsname::uname() {
        Ok(uname) => kernel_of(&uname.release().to_string_lossy()),
        Err(error) => Finding::skipped(CHECK, format!("its version cannot be read: {error}")),
    }
}

fn kernel_of(release: &str) -> Finding {
    const CHECK: &str = "kernel";
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    let (oldest, minor) = OLDEST_KERNEL;
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(a), Some(b)) if (a, b) >= OLDEST_KERNEL => Finding::ok(CHECK, format!("Linux {release}")),
        // Distributions bring features back to old kernels: the programs decide.
        (Some(_), Some(_)) => Finding::warning(
            CHECK,
            format!("Linux {release} is older than {oldest}.{minor}"),
            "see below whether it takes the programs nevertheless; if not, use a newer kernel",
        ),
        (None, _) | (_, None) => Finding::skipped(CHECK, format!("what kernel {release:?} is cannot be told")),
    }
}

fn place(cgroup: Option<PathBuf>) -> Vec<Finding> {
    match redirect::find_place(cgroup) {
        Ok(place) => {
            let bpffs = if place.bpffs { "mounted on /sys/fs/bpf" } else { "not mounted yet; the agent does it" };
            vec![
                Finding::ok("privileges", "BPF, PERFMON, NET_ADMIN and SYS_ADMIN"),
                Finding::ok("cgroup2", format!("{} is the root of the hierarchy", place.cgroup.display())),
                Finding::ok("bpffs", bpffs),
            ]
        }
        Err(missing) => missing.into_iter().map(lacking).collect(),
    }
}

fn lacking(Missing { feature, remedy }: Missing) -> Finding {
    let check = if feature.starts_with("CAP_") {
        "privileges"
    } else if feature.contains("bpffs") {
        "bpffs"
    } else {
        "cgroup2"
    };
    Finding::failed(check, format!("{feature} is missing"), remedy)
}

fn programs() -> Finding {
    const CHECK: &str = "eBPF programs";
    match redirect::try_programs() {
        Ok(count) => Finding::ok(CHECK, format!("the kernel takes all {count}")),
        Err(redirect::RedirectError::Missing(missing)) => {
            let (what, fix): (Vec<_>, Vec<_>) = missing.into_iter().map(|m| (m.feature, m.remedy)).unzip();
            Finding::failed(CHECK, format!("missing: {}", what.join("; ")), fix.join("; "))
        }
        Err(error) => Finding::failed(CHECK, error.to_string(), "run this as root, as the agent is"),
    }
}

fn open_files() -> Finding {
    const CHECK: &str = "open files";
    match limits::raise_open_files() {
        Ok(limit) if limit >= FEW_FILES => Finding::ok(CHECK, format!("{limit}, for some {} connections", limit / 2)),
        Ok(limit) => Finding::warning(
            CHECK,
            format!("{limit}: more than some {} connections at a time are refused", limit / 2),
            format!("raise the hard limit of open files (LimitNOFILE=, ulimit -Hn) to {FEW_FILES} or more"),
        ),
        Err(error) => Finding::skipped(CHECK, format!("the limit cannot be read: {error}")),
    }
}

fn clock(now: SystemTime) -> Finding {
    const CHECK: &str = "clock";
    let told = humantime::format_rfc3339_seconds(now);
    if now.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since < EARLIEST) {
        return Finding::failed(CHECK, format!("{told} is past"), "set the clock: certificates are judged by it");
    }
    match clock::is_synchronised() {
        Ok(true) => Finding::ok(CHECK, format!("{told}, kept in step")),
        Ok(false) => Finding::warning(
            CHECK,
            format!("{told}, and nothing keeps it in step"),
            "run chrony, systemd-timesyncd or the like: certificates are judged by the clock",
        ),
        Err(error) => Finding::skipped(CHECK, format!("whether something keeps it in step cannot be told: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::diagnose::check::Outcome;

    #[test]
    fn old_kernels_and_wrong_clocks_are_found() {
        let rows = [("5.17.0", Outcome::Ok), ("6.18.1-cloud", Outcome::Ok), ("5.15.0-91-generic", Outcome::Warning)];
        for (release, outcome) in
            rows.into_iter().chain([("4.18.0-553.el8", Outcome::Warning), ("plan9", Outcome::Skipped)])
        {
            assert_eq!(kernel_of(release).outcome, outcome, "{release}");
        }
        assert_eq!(clock(SystemTime::UNIX_EPOCH).outcome, Outcome::Failed);
        assert_ne!(clock(SystemTime::now()).outcome, Outcome::Failed);
    }

    #[test]
    fn what_is_missing_is_filed_under_what_it_is_about() {
        let check = |feature: &str| lacking(Missing { feature: feature.into(), remedy: "x".into() }).check;
        assert_eq!(
            [check("CAP_BPF"), check("bpffs for the pins (x)"), check("a cgroup2 mount")],
            ["privileges", "bpffs", "cgroup2"]
        );
    }
}
