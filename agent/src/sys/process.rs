//! What the kernel says of this process.

use std::fs;
use std::io;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeVal;

/// This process at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Descriptors that are open.
    pub open_files: u64,
    /// Descriptors that may be open.
    pub most_files: u64,
    /// Memory that it has in RAM.
    pub resident_bytes: u64,
    /// Memory that it has mapped.
    pub virtual_bytes: u64,
    /// CPU time of all its threads, in user and kernel mode.
    pub cpu: Duration,
    /// When it started, in seconds of Unix time.
    pub started: f64,
}

/// Reads them.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn figures() -> io::Result<Figures> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let (most_files, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let memory = fs::read_to_string("/proc/self/statm")?;
    let mut pages = memory.split_ascii_whitespace().map_while(|pages| pages.parse::<u64>().ok());
    let (mapped, resident) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    let page = page_size();
    Ok(Figures {
        open_files: open_files()?,
        most_files,
        resident_bytes: resident * page,
        virtual_bytes: mapped * page,
        cpu: duration(usage.user_time()) + duration(usage.system_time()),
        started: started()?,
    })
}

/// Since Linux 6.2 the directory's size is the number; before, its entries are.
fn open_files() -> io::Result<u64> {
    match fs::metadata("/proc/self/fd")?.len() {
        0 => Ok(fs::read_dir("/proc/self/fd")?.count() as u64),
        number => Ok(number),
    }
}

/// proc(5): the 22nd field of `stat` is the start in ticks since boot; the second is a name in brackets that may hold anything.
fn started() -> io::Result<f64> {
    let unknown = || io::Error::new(io::ErrorKind::InvalidData, "/proc tells no start time");
    let own = fs::read_to_string("/proc/self/stat")?;
    let fields = own.rsplit_once(')').ok_or_else(unknown)?.1;
    let ticks: f64 = fields.split_ascii_whitespace().nth(19).and_then(|t| t.parse().ok()).ok_or_else(unknown)?;
    let machine = fs::read_to_string("/proc/stat")?;
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime "));
    let boot: f64 = boot.and_then(|seconds| seconds.trim().parse().ok()).ok_or_else(unknown)?;
    Ok(boot + ticks / ticks_per_second())
}

fn ticks_per_second() -> f64 {
    // SAFETY: sysconf has no preconditions.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

fn page_size() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

fn duration(time: TimeVal) -> Duration {
    Duration::from_micros(u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_figures_of_this_process_are_plausible() {
        let figures = figures().unwrap();
        assert!((3..=figures.most_files).contains(&figures.open_files), "{figures:?}");
        assert!(figures.resident_bytes > 100_000 && figures.virtual_bytes >= figures.resident_bytes, "{figures:?}");
        let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() - figures.started;
        assert!((-2.0..100_000.0).contains(&age), "{figures:?}");
    }
}
