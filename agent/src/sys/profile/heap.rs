//! What memory is for: of the allocations on the system's heap a few are noted with their stacks, for as long as they are not freed.
//!
//! Each byte that is allocated has the same, small chance to have its allocation noted, as in tcmalloc and Go: on average one in
//! [`USUAL_INTERVAL`] bytes. From how likely an allocation of its size was to be noted follows how many like it there are. All others cost
//! a subtraction when they are made, and a look at one byte when they are freed. What C libraries allocate (the cryptography's) is not seen.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::modules::Module;
use super::unwind::{DEEPEST, Registers, Unwinder};

/// Bytes that are allocated, on average, for each allocation that is noted. Go takes four times as much; an agent at rest has so little that it
/// would be told as nothing.
pub const USUAL_INTERVAL: usize = 128 * 1024;

/// While nothing is noted, a thread looks whether that has changed whenever it has allocated so many bytes.
const LOOK_AGAIN: isize = 256 << 10;

/// Allocations that are kept in mind. At the usual interval they stand for 8 GiB.
const MOST: usize = 64 * 1024;

/// The process's allocator: the system's, and a look at what passes through.
#[derive(Debug)]
pub struct HeapProfiler;

/// What is allocated at the moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HeapSamples {
    /// One per stack.
    pub stacks: Vec<Allocated>,
    /// On average one allocation of so many bytes is noted.
    pub interval: usize,
    /// Allocations that would have been noted if there had not been too many.
    pub left_out: u64,
}

/// What one stack has allocated and nobody has freed: an estimate.
#[derive(Debug, PartialEq, Eq)]
pub struct Allocated {
    /// Addresses, the innermost first.
    pub stack: Box<[usize]>,
    /// How many allocations.
    pub objects: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Begins to note allocations, one in so many bytes: of this thread and of those that start from now on at once, of others after their
/// next 256 KiB.
pub fn start(modules: &[Module], interval: usize) {
    let _inside = Inside::enter();
    *live() = Some(Live { unwinder: Unwinder::new(modules), noted: HashMap::new(), left_out: 0 });
    INTERVAL.store(interval, Ordering::Relaxed);
    SEED.set(0);
    LEFT.set(0);
}

/// Notes no further allocations, and forgets what was noted.
pub fn stop() {
    let _inside = Inside::enter();
    INTERVAL.store(0, Ordering::Relaxed);
    let mut live = live();
    let noted = live.take();
    // Nothing is in them any more, and as long as the lock is held nothing gets in.
    FILTER.iter().for_each(|number| number.store(0, Ordering::Relaxed));
    drop(live);
    drop(noted);
}

/// What is allocated at the moment; nothing when allocations are not noted.
#[must_use]
pub fn allocated() -> Option<HeapSamples> {
    let _inside = Inside::enter();
    let interval = INTERVAL.load(Ordering::Relaxed);
    let (mut stacks, left_out) = {
        let live = live();
        let live = live.as_ref()?;
        let mut stacks: HashMap<Box<[usize]>, (f64, f64)> = HashMap::new();
        for Noted { size, stack } in live.noted.values() {
            let alike = 1.0 / likelihood(*size, interval);
            let (objects, bytes) = stacks.entry(stack.clone()).or_default();
            (*objects, *bytes) = (*objects + alike, *bytes + alike * *size as f64);
        }
        (stacks, live.left_out)
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "estimates of numbers that fit")]
    let allocated = |(stack, (objects, bytes)): (_, (f64, f64))| Allocated {
        stack,
        objects: objects.round() as u64,
        bytes: bytes.round() as u64,
    };
    Some(HeapSamples { stacks: stacks.drain().map(allocated).collect(), interval, left_out })
}

/// How likely it was to be noted.
fn likelihood(size: usize, interval: usize) -> f64 {
    -f64::exp_m1(-(size as f64) / interval as f64)
}

/// 0 while nothing is noted.
static INTERVAL: AtomicUsize = AtomicUsize::new(0);

/// How many noted allocations there are, by a few bits of the address: 0 says that none of them is it. A number that has reached the
/// most that fits stays there.
static FILTER: [AtomicU8; FILTERED] = [const { AtomicU8::new(0) }; FILTERED];

const FILTERED: usize = 1 << 14;

static LIVE: Mutex<Option<Live>> = Mutex::new(None);

struct Live {
    unwinder: Unwinder,
    /// By address.
    noted: HashMap<usize, Noted>,
    left_out: u64,
}

struct Noted {
    size: usize,
    stack: Box<[usize]>,
}

// None of them has a destructor or is made lazily: they are there in a thread's first and last moment.
thread_local! {
    /// Bytes until an allocation is noted.
    static LEFT: Cell<isize> = const { Cell::new(0) };
    /// Where the thread's random numbers go on; 0 before the first.
    static SEED: Cell<u64> = const { Cell::new(0) };
    /// Where the thread's stack began; 0 until somebody asks.
    static STACK_START: Cell<usize> = const { Cell::new(0) };
    /// Whether what is allocated and freed is our own.
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: all memory is the system allocator's, asked for and given back as we are.
unsafe impl GlobalAlloc for HeapProfiler {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let at = unsafe { System.alloc(layout) };
        made(at, layout.size());
        at
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let at = unsafe { System.alloc_zeroed(layout) };
        made(at, layout.size());
        at
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // Before somebody else gets the same address.
        if filter(at.addr()).load(Ordering::Relaxed) != 0 {
            forget_all_of(at.addr());
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let noted = if filter(at.addr()).load(Ordering::Relaxed) == 0 { None } else { forget(at.addr()) };
        // SAFETY: as the caller promises.
        let moved = unsafe { System.realloc(at, layout, size) };
        match noted {
            Some(noted) if moved.is_null() => keep(at.addr(), noted),
            None | Some(_) => made(moved, size),
        }
        moved
    }
}

#[inline]
fn filter(at: usize) -> &'static AtomicU8 {
    // Allocations begin at multiples of 16, and large ones at the same place in a page.
    &FILTER[(at >> 4 ^ at >> 18) % FILTERED]
}

#[inline]
fn made(at: *mut u8, size: usize) {
    let left = LEFT.get().wrapping_sub_unsigned(size);
    LEFT.set(left);
    if left < 0 {
        its_turn(at.addr(), size);
    }
}

/// Notes an allocation, if it is one of those that are, and draws the next.
#[cold]
fn its_turn(at: usize, size: usize) {
    let interval = INTERVAL.load(Ordering::Relaxed);
    if interval == 0 {
        LEFT.set(LOOK_AGAIN);
        SEED.set(0);
    }
    if interval == 0 || IS_INSIDE.get() {
        return;
    }
    let inside = Inside::enter();
    let is_first = SEED.get() == 0;
    let mut left = if is_first { draw(interval).saturating_sub_unsigned(size) } else { -1 };
    if left < 0 && at != 0 {
        note(at, size);
    }
    if left < 0 {
        left = draw(interval);
    }
    drop(inside);
    LEFT.set(left);
}

#[inline(never)]
fn note(at: usize, size: usize) {
    let (registers, start) = (Registers::here(), stack_start());
    let Some(live) = &mut *live() else { return };
    if live.noted.len() >= MOST {
        live.left_out += 1;
        return;
    }
    let read = |address: u64| {
        if address < registers.stack || address.saturating_add(8) > start as u64 {
            return Err(());
        }
        // SAFETY: between the ends of this thread's stack.
        Ok(unsafe { (address as *const u64).read_unaligned() })
    };
    let mut addresses = [0; DEEPEST];
    let found = live.unwinder.unwind(registers, read, &mut addresses);
    live.insert(at, Noted { size, stack: addresses[..found].into() });
}

/// What was noted of an allocation, of which this is no longer known.
#[cold]
fn forget(at: usize) -> Option<Noted> {
    if IS_INSIDE.get() {
        return None;
    }
    let _inside = Inside::enter();
    let noted = live().as_mut()?.noted.remove(&at)?;
    let number = filter(at);
    if number.load(Ordering::Relaxed) < u8::MAX {
        number.fetch_sub(1, Ordering::Relaxed);
    }
    Some(noted)
}

#[cold]
fn forget_all_of(at: usize) {
    drop(forget(at));
}

/// What was noted holds after all.
#[cold]
fn keep(at: usize, noted: Noted) {
    let _inside = Inside::enter();
    if let Some(live) = &mut *live() {
        live.insert(at, noted);
    }
}

impl Live {
    fn insert(&mut self, at: usize, noted: Noted) {
        let number = filter(at);
        // Changed by whoever holds the lock on `LIVE` alone.
        if self.noted.insert(at, noted).is_none() && number.load(Ordering::Relaxed) < u8::MAX {
            number.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn live() -> MutexGuard<'static, Option<Live>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it is there, what the thread allocates and frees is our own, and passes.
struct Inside(bool);

impl Inside {
    fn enter() -> Self {
        Self(IS_INSIDE.replace(true))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        IS_INSIDE.set(self.0);
    }
}

/// How many bytes until the next: exponentially distributed, so that it does not matter how long none has been noted.
fn draw(interval: usize) -> isize {
    static THREADS: AtomicUsize = AtomicUsize::new(1);
    let seed = match SEED.get() {
        0 => fastrand::Rng::with_seed(
            (&raw const LIVE).addr() as u64 ^ (THREADS.fetch_add(1, Ordering::Relaxed) as u64) << 48,
        )
        .u64(..),
        seed => seed,
    };
    let mut random = fastrand::Rng::with_seed(seed);
    let part = 1.0 - random.f64();
    SEED.set(random.get_seed().max(1));
    #[expect(clippy::cast_possible_truncation, reason = "a conversion that stays within bounds")]
    {
        (-part.ln() * interval as f64) as isize
    }
}

/// The highest address of this thread's stack. Whoever calls it is inside: the C library allocates.
fn stack_start() -> usize {
    if STACK_START.get() == 0 {
        STACK_START.set(ask_stack_start().unwrap_or(1));
    }
    STACK_START.get()
}

fn ask_stack_start() -> Option<usize> {
    let mut attributes = MaybeUninit::uninit();
    let (mut lowest, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the attributes are read only after they have been filled, and given back once.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let answer = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut lowest, &raw mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        (answer == 0).then(|| lowest.addr() + size)
    }
}
