//! The process's resource limits.

use std::fs;
use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one and returns it: every relayed connection holds two descriptors.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_open_files() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// The memory that this process may use, in bytes: the machine's, or what its container's cgroup allows.
///
/// # Errors
/// When /proc is not mounted.
pub fn memory() -> io::Result<u64> {
    let machine = total(&fs::read_to_string("/proc/meminfo")?).ok_or(io::ErrorKind::InvalidData)?;
    // In a container this is its own cgroup; the hierarchy's root does not have the file. "max" is no number: no limit.
    let cgroup = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    Ok(cgroup.unwrap_or(u64::MAX).min(machine))
}

/// The format is in proc_meminfo(5).
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(total("MemTotal:       24684544 kB\nMemFree:        1 kB\n"), Some(24_684_544 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert!(memory().unwrap() > 1 << 20);
    }
}
