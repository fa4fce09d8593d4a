//! Memory that the process no longer needs.

use std::fs;
use std::io;

use libc::{MADV_DONTNEED, c_void, madvise};

/// Less free heap than this is not worth giving back at once, in bytes: what changes next takes it again.
const WORTHWHILE: usize = 8 << 20;

/// Gives back what is not needed all the time: code that ran once, as during the start, and heap that is free again. Code that is called after all is mapped again
/// from the page cache, a few microseconds later. Gives how much code was unmapped, in bytes.
///
/// The start runs through much of a binary of which a quiet agent needs little, and the kernel maps sixteen pages for each that
/// is touched: most of what an agent at rest would keep resident.
///
/// # Errors
/// When /proc is not mounted or looks different than proc_pid_smaps(5) says.
pub fn forget_unused() -> io::Result<usize> {
    let smaps = fs::read_to_string("/proc/self/smaps")?;
    let code = untouched_code(&smaps).ok_or_else(|| io::Error::other("/proc/self/smaps looks different than known"))?;
    for &(start, length) in &code {
        // SAFETY: the range is a private mapping of a file that cannot be written, in memory or in swap without a page of its own: what is dropped is read
        // again from the same file, which the kernel keeps from being written while it is executed.
        let answer = unsafe { madvise(start as *mut c_void, length, MADV_DONTNEED) };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    trim();
    Ok(code.iter().map(|(_, length)| length).sum())
}

/// Gives back heap that is free again if that is much, of all threads: by itself the allocator does so at the end of the heap alone, and
/// what was freed is seldom there. It takes milliseconds for tens of megabytes, and keeps other threads from allocating in the part that
/// it is at, so a little is left where it is.
pub fn trim_if_much() {
    if unused_heap().is_none_or(|unused| unused >= WORTHWHILE) {
        trim();
    }
}

/// Heap that is free again and still resident, roughly, in bytes.
fn unused_heap() -> Option<usize> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm.split(' ').skip(1).map_while(|field| field.parse::<usize>().ok());
    let (resident, shared) = (pages.next()?, pages.next()?);
    let resident = resident.checked_sub(shared)? * page_size();
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time, by any thread (mallinfo(3)).
    let used = unsafe { libc::mallinfo2() };
    #[cfg(target_env = "gnu")]
    return resident.checked_sub(used.uordblks + used.hblkhd);
    #[cfg(not(target_env = "gnu"))]
    None
}

fn page_size() -> usize {
    // SAFETY: asks for a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time, by any thread (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Mappings of files that can be read and run but not written, and of which no page is the process's own, as relocations and a
/// debugger's breakpoints make them: start and length.
fn untouched_code(smaps: &str) -> Option<Vec<(usize, usize)>> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut is_code = false;
    for line in smaps.lines() {
        let (first, rest) = line.split_once(' ')?;
        if let Some((start, end)) = first.split_once('-') {
            let number = |text| usize::from_str_radix(text, 16).ok();
            let (start, end) = (number(start)?, number(end)?);
            is_code = (rest.starts_with("r-xp ") || rest.starts_with("r--p ")) && rest.contains(" /");
            if is_code {
                found.push((start, end.checked_sub(start)?));
            }
        } else if matches!(first, "Anonymous:" | "Swap:") && rest.trim() != "0 kB" && is_code {
            is_code = false;
            found.pop();
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0c0000000-55d0c1000000 r--p 00000000 fe:00 12 /usr/bin/sotto
Size:              16384 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
55d0c1000000-55d0c1800000 r-xp 01000000 fe:00 12 /usr/bin/sotto
Rss:                8192 kB
Anonymous:             0 kB
55d0c1800000-55d0c1900000 r-xp 01800000 fe:00 12 /usr/bin/sotto
Anonymous:             4 kB
Swap:                  4 kB
55d0c1900000-55d0c1980000 r--p 01900000 fe:00 12 /usr/bin/sotto
Anonymous:             0 kB
Swap:                  8 kB
55d0c1980000-55d0c1a00000 rw-p 01980000 fe:00 12 /usr/bin/sotto
Anonymous:          1024 kB
7f0000000000-7f0000001000 r-xp 00000000 00:00 0
Anonymous:             0 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";

    /// Other tests of the process allocate meanwhile, but not nearly as much.
    #[cfg(target_env = "gnu")]
    #[test]
    fn much_that_was_freed_between_what_is_kept_is_given_back() {
        const PAGE: usize = 16 * 1024;
        let mut all: Vec<_> = (0..4096).map(|number| vec![number as u8; PAGE]).collect();
        let mut number = 0;
        all.retain(|_| {
            number += 1;
            number % 8 == 0
        });
        let before = unused_heap().unwrap();
        assert!(before >= 40 << 20, "{before} bytes are free and resident");
        trim_if_much();
        let after = unused_heap().unwrap();
        assert!(after + (30 << 20) <= before, "{after} bytes are left of {before}");
        assert!(all.iter().all(|page| page.len() == PAGE));
    }

    #[test]
    fn only_code_from_files_without_own_pages_is_dropped() {
        assert_eq!(untouched_code(SMAPS), Some(vec![(0x55d0_c000_0000, 0x100_0000), (0x55d0_c100_0000, 0x80_0000)]));
        assert_eq!(untouched_code("zz-11 r-xp /x\n"), None);
    }

    #[test]
    fn code_that_was_dropped_still_runs() {
        assert!(forget_unused().unwrap() > 0);
        assert_eq!(untouched_code(SMAPS).map(|code| code.len()), Some(2));
    }
}
