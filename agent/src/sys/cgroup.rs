//! Where the cgroup2 hierarchy is.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The inode number of a cgroup hierarchy's root. What a container sees as its root has another one.
const ROOT_INODE: u64 = 1;

/// A mounted cgroup2 directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Whether it is the root of the hierarchy, and not merely the part that a container sees.
    pub is_root: bool,
}

/// Every cgroup2 mount that this process sees, hierarchy roots first.
///
/// # Errors
/// When /proc is not mounted.
pub fn mounts() -> io::Result<Vec<CgroupMount>> {
    let mut mounts: Vec<CgroupMount> = parse(&fs::read_to_string("/proc/self/mountinfo")?)
        .into_iter()
        .map(|path| CgroupMount { is_root: id(&path).is_ok_and(|id| id == ROOT_INODE), path })
        .collect();
    mounts.sort_by_key(|mount| !mount.is_root);
    Ok(mounts)
}

/// The id by which the kernel tells cgroups apart.
///
/// # Errors
/// When the directory is not there.
pub fn id(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}

/// The mount points of type cgroup2; the format is in proc_pid_mountinfo(5).
fn parse(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            (filesystem.split(' ').next()? == "cgroup2").then_some(())?;
            mount.split(' ').nth(4).map(|path| PathBuf::from(unescape(path)))
        })
        .collect()
}

/// Undoes the kernel's `\040` for a space, `\011` for a tab, `\012` for a newline and `\134` for a backslash.
fn unescape(path: &str) -> String {
    let mut parts = path.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                text.push_str(&part[3..]);
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_cgroup2_wherever_it_is() {
        let mountinfo = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
42 31 0:38 /../.. /odd\\040place rw - cgroup2 none rw
broken line - cgroup2
";
        assert_eq!(parse(mountinfo), [Path::new("/sys/fs/cgroup/unified"), Path::new("/odd place")]);
        assert!(parse("").is_empty());
    }

    #[test]
    fn odd_escapes_stay_as_they_are() {
        assert_eq!(unescape("/a\\134b"), "/a\\b");
        assert_eq!(unescape("/a\\9zz\\"), "/a\\9zz\\");
        assert_eq!(unescape("/a\\0é"), "/a\\0é");
    }
}
