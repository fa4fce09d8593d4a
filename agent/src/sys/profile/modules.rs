//! What is loaded into this process: the binary, its libraries, and where each tells how its stacks are unwound.

use std::ffi::{CStr, OsStr, c_int, c_void};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::slice;

use libc::{PF_X, PT_GNU_EH_FRAME, PT_LOAD, dl_phdr_info, size_t};

/// A file that is mapped to be run. Nothing here loads libraries while it runs, so what is loaded stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The file; for the binary itself a path that leads to it even after it was replaced.
    pub path: PathBuf,
    /// Where it is in memory.
    pub range: Range<usize>,
    /// What an address in the file is moved by.
    pub bias: usize,
    /// Where code is in the file, and where in memory.
    pub code: Option<Code>,
    /// How its stacks are unwound, if it says.
    pub(super) unwind: Option<UnwindTables>,
}

/// A segment of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// In memory.
    pub range: Range<usize>,
    /// Where it begins in the file.
    pub offset: usize,
}

/// The sections of a module that tell how its stacks are unwound: address in the file, and bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnwindTables {
    pub(super) index: (usize, &'static [u8]),
    pub(super) frames: (usize, &'static [u8]),
}

/// The binary as this process runs it.
const OWN_BINARY: &str = "/proc/self/exe";

/// All that is loaded.
#[must_use]
pub fn loaded() -> Vec<Module> {
    let mut found: Vec<Module> = Vec::new();
    // SAFETY: the callback is given what this passes along, while this waits; it keeps to the linker's lock by not loading anything.
    unsafe {
        libc::dl_iterate_phdr(Some(take), (&raw mut found).cast());
    }
    found
}

/// Called once for each module; the first one is the binary, which has no name.
unsafe extern "C" fn take(info: *mut dl_phdr_info, _size: size_t, found: *mut c_void) -> c_int {
    // SAFETY: `info` is the linker's, `found` is the list of `loaded`, and both are there during the call.
    let (info, found) = unsafe { (&*info, &mut *found.cast::<Vec<Module>>()) };
    // SAFETY: a string of the linker's, or none.
    let name = if info.dlpi_name.is_null() { c"" } else { unsafe { CStr::from_ptr(info.dlpi_name) } };
    // SAFETY: the module's own table of its segments.
    let segments = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let path = match name.to_bytes() {
        [] => PathBuf::from(OWN_BINARY),
        name => PathBuf::from(OsStr::from_bytes(name)),
    };
    found.extend(module(path, number(info.dlpi_addr), segments));
    0
}

#[cfg(target_pointer_width = "64")]
type Segment = libc::Elf64_Phdr;

fn module(path: PathBuf, bias: usize, segments: &[Segment]) -> Option<Module> {
    let mapped = || segments.iter().filter(|segment| segment.p_type == PT_LOAD);
    let start = mapped().map(|segment| number(segment.p_vaddr)).min()?;
    let end = mapped().map(|segment| number(segment.p_vaddr + segment.p_memsz)).max()?;
    let code = mapped().find(|segment| segment.p_flags & PF_X != 0).map(|segment| {
        let start = bias.wrapping_add(number(segment.p_vaddr));
        Code { range: start..start + number(segment.p_memsz), offset: number(segment.p_offset) }
    });
    // SAFETY: the linker has mapped this module as its segments say, and never takes it away.
    let unwind = unsafe { unwind_tables(bias, segments) };
    Some(Module { path, range: bias.wrapping_add(start)..bias.wrapping_add(end), bias, code, unwind })
}

/// Reads the head of `.eh_frame_hdr` in memory ("Linux Standard Base, Core", 10.6.2), which says where `.eh_frame` is.
///
/// # Safety
/// `segments` has to be the table of a module that is mapped at `bias` and stays there.
unsafe fn unwind_tables(bias: usize, segments: &[Segment]) -> Option<UnwindTables> {
    const HEAD: usize = 8;
    /// Version, and: relative to itself, 32 bits, signed.
    const KNOWN: [u8; 2] = [1, 0x1b];
    let index = segments.iter().find(|segment| segment.p_type == PT_GNU_EH_FRAME)?;
    let (at, length) = (number(index.p_vaddr), number(index.p_memsz));
    // SAFETY: mapped, and not written any more; as the caller promises.
    let bytes =
        |at: usize, length: usize| unsafe { slice::from_raw_parts((bias.wrapping_add(at)) as *const u8, length) };
    holds(segments, at, length)?;
    let index = bytes(at, length);
    if index.len() < HEAD || index[..2] != KNOWN {
        return None;
    }
    let relative = i32::from_ne_bytes(index[4..HEAD].try_into().ok()?);
    let frames = (at + 4).checked_add_signed(isize::try_from(relative).ok()?)?;
    // Where the section ends is not told; the index leads to entries, and the segment's end is further than any.
    let rest = holds(segments, frames, 1)?;
    Some(UnwindTables { index: (at, index), frames: (frames, bytes(frames, rest)) })
}

/// How many bytes are mapped from `at` on, if it is `length` or more.
fn holds(segments: &[Segment], at: usize, length: usize) -> Option<usize> {
    let within = |segment: &&Segment| {
        let start = number(segment.p_vaddr);
        segment.p_type == PT_LOAD && at >= start && at - start < number(segment.p_filesz)
    };
    let segment = segments.iter().find(within)?;
    let rest = number(segment.p_vaddr + segment.p_filesz) - at;
    (rest >= length).then_some(rest)
}

/// An address or a size; the process itself has them as pointers.
fn number(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_the_first_and_has_code_and_unwind_tables() {
        let modules = loaded();
        let own = &modules[0];
        let here = loaded as fn() -> Vec<Module> as usize;
        assert_eq!(own.path, PathBuf::from(OWN_BINARY));
        assert!(own.range.contains(&here) && own.code.as_ref().unwrap().range.contains(&here), "{own:?}");
        let tables = own.unwind.as_ref().unwrap();
        assert!(tables.frames.1.len() > tables.index.1.len() / 2, "{} {}", tables.frames.1.len(), tables.index.1.len());
    }
}
