//! From the registers of a thread to the functions that are active in it.
//!
//! Frame pointers would cost every function a register, always; the tables that say how a stack is unwound are in the binary anyway.

use framehop::{
    CacheNative, ExplicitModuleSectionInfo, MayAllocateDuringUnwind, Module as Known, UnwindRegsNative, Unwinder as _,
    UnwinderNative,
};

use super::modules::Module;

/// Functions that are told of one stack; those furthest out are left out.
pub(super) const DEEPEST: usize = 128;

/// Unwinds stacks of this process.
pub(super) struct Unwinder {
    unwinder: UnwinderNative<&'static [u8], MayAllocateDuringUnwind>,
    cache: CacheNative<MayAllocateDuringUnwind>,
}

/// The registers that unwinding begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Registers {
    /// Where the thread is.
    pub(super) program: u64,
    /// Where its stack ends.
    pub(super) stack: u64,
    /// Its frame pointer, or whatever the register is used for.
    pub(super) frame: u64,
    /// Where it will return to (aarch64).
    #[cfg(target_arch = "aarch64")]
    pub(super) link: u64,
}

impl Unwinder {
    pub(super) fn new(modules: &[Module]) -> Self {
        let mut unwinder = UnwinderNative::new();
        modules.iter().for_each(|module| unwinder.add_module(known(module)));
        Self { unwinder, cache: CacheNative::new() }
    }

    /// Writes the stack's addresses, the innermost first, each within the call that is active; gives how many there are. `read`
    /// reads eight bytes of the stack.
    pub(super) fn unwind(
        &mut self,
        registers: Registers,
        mut read: impl FnMut(u64) -> Result<u64, ()>,
        into: &mut [usize; DEEPEST],
    ) -> usize {
        let start = registers.program;
        let mut frames = self.unwinder.iter_frames(start, registers.native(), &mut self.cache, &mut read);
        let mut found = 0;
        // A stack that cannot be unwound to its end is told as far as it can.
        while let (true, Ok(Some(frame))) = (found < DEEPEST, frames.next()) {
            into[found] = usize::try_from(frame.address_for_lookup()).unwrap_or_default();
            found += 1;
        }
        found
    }
}

impl Registers {
    #[cfg(target_arch = "x86_64")]
    fn native(self) -> UnwindRegsNative {
        UnwindRegsNative::new(self.program, self.stack, self.frame)
    }

    #[cfg(target_arch = "aarch64")]
    fn native(self) -> UnwindRegsNative {
        UnwindRegsNative::new(self.link, self.stack, self.frame)
    }

    /// Those of the function that this is inlined into.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn here() -> Self {
        let (program, stack, frame): (u64, u64, u64);
        // SAFETY: copies registers and touches nothing else.
        unsafe {
            std::arch::asm!(
                "lea {}, [rip]", "mov {}, rsp", "mov {}, rbp",
                out(reg) program, out(reg) stack, out(reg) frame,
                options(nomem, nostack, preserves_flags)
            );
        }
        Self { program, stack, frame }
    }

    /// Those of the function that this is inlined into.
    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    pub(super) fn here() -> Self {
        let (program, stack, frame, link): (u64, u64, u64, u64);
        // SAFETY: copies registers and touches nothing else.
        unsafe {
            std::arch::asm!(
                "adr {}, .", "mov {}, sp", "mov {}, x29", "mov {}, x30",
                out(reg) program, out(reg) stack, out(reg) frame, out(reg) link,
                options(nomem, nostack, preserves_flags)
            );
        }
        Self { program, stack, frame, link }
    }
}

fn known(module: &Module) -> Known<&'static [u8]> {
    let sections = module.unwind.as_ref().map_or_else(ExplicitModuleSectionInfo::default, |tables| {
        let range = |(at, bytes): (usize, &[u8])| Some(at as u64..(at + bytes.len()) as u64);
        ExplicitModuleSectionInfo {
            eh_frame_svma: range(tables.frames),
            eh_frame: Some(tables.frames.1),
            eh_frame_hdr_svma: range(tables.index),
            eh_frame_hdr: Some(tables.index.1),
            ..ExplicitModuleSectionInfo::default()
        }
    });
    let range = module.range.start as u64..module.range.end as u64;
    Known::new(module.path.display().to_string(), range, module.bias as u64, sections)
}
