//! Where the process spends its processor time: the kernel's own profiler looks at each thread, a number of times per second that it
//! runs, and notes registers and stack. Nothing is signalled, so no system call is interrupted, and none of our code runs where the
//! thread happened to be; unwinding takes place here, afterwards.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::gettid;
use perf_event::data::{Record, Sample};
use perf_event::events::Software;
use perf_event::{Builder, SampleFlag, Sampler};

use super::modules::Module;
use super::unwind::{DEEPEST, Registers, Unwinder};

/// How much of a stack is noted, in bytes; functions that lie deeper are not told.
const STACK: u32 = 16 * 1024;

/// What the kernel may note per thread before it is read, in bytes. Less is taken where the process may lock no more memory.
const MOST_ROOM: usize = 512 * 1024;
const LEAST_ROOM: usize = 64 * 1024;

/// How often new threads are looked for.
const LOOK: Duration = Duration::from_millis(50);

/// What has been seen.
#[derive(Debug, Default)]
pub struct CpuSamples {
    /// How often which stack.
    pub stacks: HashMap<Stack, u64>,
    /// What one sample stands for.
    pub period: Duration,
    /// How long it was looked.
    pub duration: Duration,
    /// Samples that the kernel had no room for.
    pub lost: u64,
}

/// A thread's stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// The thread's name.
    pub thread: Arc<str>,
    /// Whether it was in the kernel, on behalf of the innermost function.
    pub in_kernel: bool,
    /// Addresses, the innermost first.
    pub addresses: Box<[usize]>,
}

/// Why there are no samples.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// Not allowed.
    #[error(
        "the kernel does not let the process look at itself ({0}): it needs the capability PERFMON (or SYS_ADMIN), or \
         kernel.perf_event_paranoid at 1 or less, and a seccomp profile that lets perf_event_open through"
    )]
    Refused(io::Error),
    /// Anything else.
    #[error("taking samples of a thread: {0}")]
    Kernel(#[from] io::Error),
}

/// Samples all threads but this one, for as long as said or until `stop` is set, `frequency` times for each second that they run.
///
/// # Errors
/// [`CpuError`]
pub fn sample(
    modules: &[Module],
    duration: Duration,
    frequency: u32,
    stop: &AtomicBool,
) -> Result<CpuSamples, CpuError> {
    let period = Duration::from_secs(1) / frequency.max(1);
    let (start, mut unwinder) = (Instant::now(), Unwinder::new(modules));
    let mut samples = CpuSamples { period, ..CpuSamples::default() };
    let mut threads: HashMap<i32, Thread> = HashMap::new();
    while start.elapsed() < duration && !stop.load(Ordering::Relaxed) {
        find_threads(&mut threads, period)?;
        let patience = LOOK.min(duration.saturating_sub(start.elapsed()));
        wait(&threads, patience)?;
        threads.values_mut().for_each(|thread| thread.read(&mut unwinder, &mut samples));
    }
    samples.duration = start.elapsed();
    threads.values_mut().for_each(|thread| thread.read(&mut unwinder, &mut samples));
    Ok(samples)
}

/// A thread that is looked at.
struct Thread {
    name: Arc<str>,
    sampler: Sampler,
}

/// Looks at threads that are new, and no longer at those that have ended. A number that was used again in between is told as before.
fn find_threads(threads: &mut HashMap<i32, Thread>, period: Duration) -> Result<(), CpuError> {
    let me = gettid().as_raw();
    let mut there = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        there.push(id);
        if id == me || threads.contains_key(&id) {
            continue;
        }
        match Thread::open(id, period) {
            Ok(thread) => drop(threads.insert(id, thread)),
            // It has ended since.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::ENOSYS)) => {
                return Err(CpuError::Refused(error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    threads.retain(|id, _| there.contains(id));
    Ok(())
}

/// Until a thread's room is half full, or the time has come to look for new ones.
fn wait(threads: &HashMap<i32, Thread>, patience: Duration) -> io::Result<()> {
    // SAFETY: the samplers, and with them their descriptors, outlive the list.
    let descriptor = |thread: &Thread| unsafe { BorrowedFd::borrow_raw(thread.sampler.as_raw_fd()) };
    let descriptors: Vec<_> = threads.values().map(descriptor).collect();
    let mut waited: Vec<_> = descriptors.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)).collect();
    let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
    match poll(&mut waited, patience) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Thread {
    fn open(id: i32, period: Duration) -> io::Result<Self> {
        let name = fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap_or_default();
        let mut room = MOST_ROOM;
        loop {
            let counter = Builder::new(Software::CPU_CLOCK)
                .observe_pid(id)
                .any_cpu()
                .include_kernel()
                .sample(SampleFlag::REGS_USER | SampleFlag::STACK_USER)
                .sample_period(u64::try_from(period.as_nanos()).unwrap_or(u64::MAX))
                .sample_regs_user(REGISTERS)
                .sample_stack_user(STACK)
                .wakeup_watermark(room / 2)
                .enabled(true)
                .build()?;
            match counter.sampled(room) {
                Ok(sampler) => return Ok(Self { name: name.trim_end().into(), sampler }),
                // Past what the process may lock.
                Err(error) if error.raw_os_error() == Some(libc::EPERM) && room > LEAST_ROOM => room /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what the kernel has noted.
    fn read(&mut self, unwinder: &mut Unwinder, samples: &mut CpuSamples) {
        const MODE: u16 = 7;
        const KERNEL: u16 = 1;
        while let Some(record) = self.sampler.next_record() {
            let in_kernel = record.misc() & MODE == KERNEL;
            match record.parse_record() {
                Ok(Record::Sample(sample)) => {
                    let addresses = stack_of(&sample, unwinder);
                    let stack = Stack { thread: Arc::clone(&self.name), in_kernel, addresses };
                    *samples.stacks.entry(stack).or_default() += 1;
                }
                Ok(Record::Lost(lost)) => samples.lost += lost.lost,
                Ok(_) | Err(_) => {}
            }
        }
    }
}

fn stack_of(sample: &Sample<'_>, unwinder: &mut Unwinder) -> Box<[usize]> {
    // A thread that is starting or ending has no registers of its own.
    let Some(registers) = sample.regs_user().and_then(|noted| of_kernel(&noted.regs)) else { return Box::default() };
    let stack = sample.stack_user().unwrap_or_default();
    let read = |address: u64| {
        let at = usize::try_from(address.wrapping_sub(registers.stack)).map_err(|_| ())?;
        let bytes = stack.get(at..at.checked_add(8).ok_or(())?).ok_or(())?;
        Ok(u64::from_ne_bytes(bytes.try_into().map_err(|_| ())?))
    };
    let mut addresses = [0; DEEPEST];
    let found = unwinder.unwind(registers, read, &mut addresses);
    addresses[..found].into()
}

/// Frame pointer, stack pointer, instruction pointer: `PERF_REG_X86_BP`, `_SP`, `_IP`.
#[cfg(target_arch = "x86_64")]
const REGISTERS: u64 = 1 << 6 | 1 << 7 | 1 << 8;

/// As the kernel notes them, in the order of their numbers.
#[cfg(target_arch = "x86_64")]
fn of_kernel(noted: &[u64]) -> Option<Registers> {
    let &[frame, stack, program] = noted else { return None };
    Some(Registers { program, stack, frame })
}

/// Frame pointer, link register, stack pointer, program counter: `PERF_REG_ARM64_X29`, `_LR`, `_SP`, `_PC`.
#[cfg(target_arch = "aarch64")]
const REGISTERS: u64 = 1 << 29 | 1 << 30 | 1 << 31 | 1 << 32;

/// As the kernel notes them, in the order of their numbers.
#[cfg(target_arch = "aarch64")]
fn of_kernel(noted: &[u64]) -> Option<Registers> {
    let &[frame, link, stack, program] = noted else { return None };
    Some(Registers { program, stack, frame, link })
}
