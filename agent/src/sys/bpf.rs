//! The bpf() system call, for what the eBPF library keeps to itself: replacing the program of a link, and maps that many
//! threads use without a lock.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

// Commands, from the kernel's `include/uapi/linux/bpf.h`.
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_GET_NEXT_KEY: libc::c_int = 4;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_int = 21;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;

/// A map, with the sizes of its keys and values checked once so that every use is safe.
///
/// Each use is one system call on a shared descriptor: any number of threads may use a map at once.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    key_size: usize,
    value_size: usize,
    capacity: usize,
}

/// The kernel's own, which no libc knows: this kind of map cannot do it.
const ENOTSUPP: i32 = 524;

/// Entries that one system call reads. The kernel takes whole buckets, which in a hash map hold a few entries.
const BATCH: usize = 1024;

impl Map {
    /// Takes a map whose keys and values have these sizes in bytes. Not for per-CPU maps.
    ///
    /// # Errors
    /// `InvalidData` when the map has other sizes; else what the kernel says.
    pub fn new(fd: OwnedFd, key_size: usize, value_size: usize) -> io::Result<Self> {
        let mut info = MapInfo::default();
        let mut attributes = InfoAttributes {
            fd: fd.as_raw_fd().cast_unsigned(),
            length: size_of::<MapInfo>() as u32,
            info: (&raw mut info).expose_provenance() as u64,
        };
        // SAFETY: the attributes lead to `info`, which is alive and as long as they say.
        unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)? };
        if (info.key_size as usize, info.value_size as usize) != (key_size, value_size) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the map has {}-byte keys and {}-byte values", info.key_size, info.value_size),
            ));
        }
        Ok(Self { fd, key_size, value_size, capacity: info.max_entries as usize })
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// What the kernel says: E2BIG when the map is full.
    ///
    /// # Panics
    /// When key or value have not the sizes that [`Self::new`] was given.
    pub fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert_eq!((key.len(), value.len()), (self.key_size, self.value_size));
        let mut attributes = ElementAttributes::new(&self.fd, key, value.as_ptr());
        // SAFETY: key and value are as long as the kernel takes them to be, which `new` has checked; it only reads them.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attributes) }.map(drop)
    }

    /// Entries that there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Counts the entries of a hash map, or of one of sockets. What comes and goes meanwhile may be counted or not.
    ///
    /// # Errors
    /// What the kernel says; EINVAL before Linux 5.6.
    pub fn count(&self) -> io::Result<usize> {
        let mut entries = 0;
        match self.for_each(|_, _| entries += 1) {
            // A map of sockets is not read many at a time.
            Err(error) if error.raw_os_error() == Some(ENOTSUPP) => self.count_keys(),
            result => result.map(|()| entries),
        }
    }

    /// One key after the other. If the one that it has come to is taken out, the kernel begins anew: past the capacity it ends.
    fn count_keys(&self) -> io::Result<usize> {
        let (mut key, mut next) = (vec![0u8; self.key_size], vec![0u8; self.key_size]);
        for entries in 0..self.capacity {
            let mut attributes = ElementAttributes::new(&self.fd, &key, next.as_mut_ptr());
            if entries == 0 {
                attributes.key = 0;
            }
            // SAFETY: both have the length of a key, which `new` has checked; the kernel reads the one and writes the other.
            match unsafe { bpf(BPF_MAP_GET_NEXT_KEY, &mut attributes) } {
                Ok(_) => std::mem::swap(&mut key, &mut next),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(entries),
                Err(error) => return Err(error),
            }
        }
        Ok(self.capacity)
    }

    /// Takes the value of a key out of a hash map, in one step. `false`: there is none, and `value` is as it was.
    ///
    /// # Errors
    /// What the kernel says; EINVAL before Linux 5.14.
    ///
    /// # Panics
    /// When key or value have not the sizes that [`Self::new`] was given.
    pub fn take(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        assert_eq!((key.len(), value.len()), (self.key_size, self.value_size));
        let mut attributes = ElementAttributes::new(&self.fd, key, value.as_mut_ptr());
        // SAFETY: as in `update`; the kernel writes no more than the value's length.
        match unsafe { bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attributes) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Map {
    /// Shows every entry of a hash map, many per system call. One that comes or goes meanwhile may be shown or not.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn for_each(&self, mut show: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let (mut keys, mut values) = (vec![0u8; BATCH * self.key_size], vec![0u8; BATCH * self.value_size]);
        // What the kernel remembers between two calls: the number of a bucket, in as much room as it may ask for.
        let (mut at, mut next) = (vec![0u8; self.key_size.max(8)], vec![0u8; self.key_size.max(8)]);
        let mut is_first = true;
        loop {
            let mut attributes = BatchAttributes {
                at: if is_first { 0 } else { at.as_mut_ptr().expose_provenance() as u64 },
                next: next.as_mut_ptr().expose_provenance() as u64,
                keys: keys.as_mut_ptr().expose_provenance() as u64,
                values: values.as_mut_ptr().expose_provenance() as u64,
                count: BATCH as u32,
                map: self.fd.as_raw_fd().cast_unsigned(),
                element_flags: 0,
                flags: 0,
            };
            // SAFETY: there is room for `count` keys and values of the sizes that `new` has checked, and for a place in the map.
            let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attributes) };
            let is_last = match result {
                Ok(_) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                Err(error) => return Err(error),
            };
            let found = (attributes.count as usize).min(BATCH);
            let entries = keys.chunks_exact(self.key_size).zip(values.chunks_exact(self.value_size));
            entries.take(found).for_each(|(key, value)| show(key, value));
            if is_last {
                return Ok(());
            }
            is_first = false;
            std::mem::swap(&mut at, &mut next);
        }
    }
}

/// Opens what is pinned at `path`.
///
/// # Errors
/// When there is nothing, or it is no pin.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = PinAttributes { path: path.as_ptr().expose_provenance() as u64, fd: 0, flags: 0 };
    // SAFETY: the attributes lead to a string that ends in 0 and is alive.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut attributes)? };
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes `link` run `program` from now on, without a moment in which it runs neither.
///
/// # Errors
/// ENOLINK when what the link was attached to is gone; EINVAL when the program is of another kind.
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = LinkAttributes {
        link: link.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        flags: 0,
        old_program: 0,
    };
    // SAFETY: the attributes hold no pointer.
    unsafe { bpf(BPF_LINK_UPDATE, &mut attributes) }.map(drop)
}

/// Detaches a link at once, whoever else holds or pins it. It does no harm to detach it again.
///
/// # Errors
/// When this is no link.
pub fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = DetachAttributes { link: link.as_raw_fd().cast_unsigned() };
    // SAFETY: the attributes hold no pointer.
    unsafe { bpf(BPF_LINK_DETACH, &mut attributes) }.map(drop)
}

/// What a link is attached to: for one at a cgroup, the cgroup's id, which is the inode number of its directory.
///
/// # Errors
/// When this is no link.
pub fn link_cgroup(link: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = LinkInfo::default();
    let mut attributes = InfoAttributes {
        fd: link.as_raw_fd().cast_unsigned(),
        length: size_of::<LinkInfo>() as u32,
        info: (&raw mut info).expose_provenance() as u64,
    };
    // SAFETY: the attributes lead to `info`, which is alive and as long as they say.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)? };
    Ok(info.cgroup_id)
}

/// Runs a classifier on one Ethernet frame, without a network, and says what it answers.
#[cfg(test)]
pub(crate) fn run_on_frame(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<i32> {
    const BPF_PROG_TEST_RUN: libc::c_int = 10;
    let mut attributes = TestAttributes {
        program: program.as_raw_fd().cast_unsigned(),
        answer: 0,
        length: frame.len() as u32,
        length_after: 0,
        frame: frame.as_ptr().expose_provenance() as u64,
        frame_after: 0,
        repeat: 1,
        duration: 0,
    };
    // SAFETY: the attributes lead to the frame, which is alive, as long as they say, and only read.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attributes)? };
    Ok(attributes.answer)
}

/// The time since the machine started, suspension included, on the clock that programs read.
#[must_use]
pub fn boot_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer leads to a timespec; this clock exists since Linux 2.6.39, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Calls bpf() with the attributes of `command`.
///
/// # Safety
/// The attributes are those of the command, and what they point to is alive, and as long and as writable as the command
/// takes it to be.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the caller vouches for what is inside; the pointer and the length are those of the attributes.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *mut T, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

#[repr(C)]
struct ElementAttributes {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl ElementAttributes {
    fn new(map: &OwnedFd, key: &[u8], value: *const u8) -> Self {
        Self {
            map: map.as_fd().as_raw_fd().cast_unsigned(),
            padding: 0,
            key: key.as_ptr().expose_provenance() as u64,
            value: value.expose_provenance() as u64,
            flags: 0,
        }
    }
}

#[repr(C)]
struct BatchAttributes {
    at: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
struct PinAttributes {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct InfoAttributes {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
struct LinkAttributes {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

#[cfg(test)]
#[repr(C)]
struct TestAttributes {
    program: u32,
    answer: i32,
    length: u32,
    length_after: u32,
    frame: u64,
    frame_after: u64,
    repeat: u32,
    duration: u32,
}

#[repr(C)]
struct DetachAttributes {
    link: u32,
}

/// The beginning of `struct bpf_map_info`; the kernel fills in as much as there is room for.
#[repr(C)]
#[derive(Default)]
struct MapInfo {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// The beginning of `struct bpf_link_info`.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    cgroup_id: u64,
    attach_type: u32,
    rest: u32,
}
