//! From what is allocated to names in a profile. Processor time takes a kernel that lets us look: `tests/netns/observe/profiles.rs`.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::Read as _;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::thread;

use prost::Message as _;

use super::messages::Profile;
use super::profile;
use crate::sys::profile::heap::HeapProfiler;
use crate::sys::profile::{heap, modules};

/// Tests of this program allocate with it, as the agent does.
#[global_allocator]
static HEAP: HeapProfiler = HeapProfiler;

static NEVER: AtomicBool = AtomicBool::new(false);

/// Small enough that chance hardly matters: 64 MiB are 4,096 samples, a deviation of 1.6 %.
const INTERVAL: usize = 16 * 1024;
const MIB: u64 = 1 << 20;

/// The heap is one for all tests.
static HEAP_TESTS: Mutex<()> = Mutex::new(());

fn unpacked(profile: &[u8]) -> Profile {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(profile).read_to_end(&mut bytes).unwrap();
    Profile::decode(bytes.as_slice()).unwrap()
}

/// Stacks as names, the innermost first, with their second value.
fn stacks(profile: &Profile) -> Vec<(Vec<&str>, u64)> {
    let text = |number: i64| profile.string_table[usize::try_from(number).unwrap()].as_str();
    let functions: HashMap<u64, &str> = profile.function.iter().map(|it| (it.id, text(it.name))).collect();
    let lines: HashMap<u64, Vec<&str>> = profile
        .location
        .iter()
        .map(|location| (location.id, location.line.iter().map(|line| functions[&line.function_id]).collect()))
        .collect();
    let names = |locations: &[u64]| locations.iter().flat_map(|id| lines[id].clone()).collect();
    profile.sample.iter().map(|sample| (names(&sample.location_id), sample.value[1].try_into().unwrap())).collect()
}

/// The sum of what has this function in its stack.
fn of(profile: &Profile, function: &str) -> u64 {
    let has = |names: &[&str]| names.iter().any(|name| name.ends_with(function));
    stacks(profile).iter().filter(|(names, _)| has(names)).map(|(_, value)| value).sum()
}

#[inline(never)]
fn leak_small() -> Vec<Box<[u8; 4096]>> {
    let leaked = (0..64 * MIB / 4096).map(|_| black_box(Box::new([1; 4096]))).collect();
    black_box(leaked)
}

#[inline(never)]
fn leak_from_elsewhere() -> Vec<Vec<u8>> {
    let leaked = (0..16).map(|_| black_box(vec![2; 1 << 20])).collect();
    black_box(leaked)
}

#[inline(never)]
fn keep_a_tenth() -> Vec<Vec<u8>> {
    let mut kept = Vec::new();
    for round in 0..20_000_usize {
        let bytes = black_box(vec![1_u8; 1 + round * 37 % 3000]);
        if round % 10 == 0 {
            kept.push(bytes);
        }
    }
    black_box(kept)
}

fn heap_profile(modules: &[modules::Module]) -> Profile {
    unpacked(&profile::heap(modules, &heap::allocated().unwrap(), &NEVER).unwrap())
}

#[test]
fn memory_is_told_by_the_function_that_holds_it_until_it_is_freed_by_whomever() {
    let _alone = HEAP_TESTS.lock().unwrap();
    let modules = modules::loaded();
    heap::start(&modules, INTERVAL);
    let held = thread::spawn(leak_small).join().unwrap();
    let elsewhere = thread::spawn(leak_from_elsewhere).join().unwrap();
    let before = heap_profile(&modules);
    let (small, large) = (of(&before, "leak_small"), of(&before, "leak_from_elsewhere"));
    assert!((58 * MIB..71 * MIB).contains(&small), "{small}\n{:#?}", stacks(&before));
    assert!((14 * MIB..19 * MIB).contains(&large), "{large}");
    let real = leak_small as fn() -> Vec<Box<[u8; 4096]>> as usize as u64;
    assert!(before.location.iter().all(|place| place.address.abs_diff(real) > 1 << 20), "{real:#x}");
    let innermost = |names: &[&str]| names.first().is_some_and(|name| name.contains("sys::profile"));
    assert!(!stacks(&before).iter().any(|(names, _)| innermost(names)), "{:#?}", stacks(&before));
    drop(held);
    let grown: Vec<Vec<u8>> = elsewhere
        .into_iter()
        .map(|mut bytes| {
            bytes.reserve_exact(4 << 20);
            bytes
        })
        .collect();
    let after = heap_profile(&modules);
    assert_eq!((of(&after, "leak_small"), of(&after, "leak_from_elsewhere")), (0, 0));
    drop(grown);
}

#[test]
fn threads_allocate_and_free_at_once_and_what_is_left_is_told() {
    let _alone = HEAP_TESTS.lock().unwrap();
    let modules = modules::loaded();
    heap::start(&modules, INTERVAL);
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(keep_a_tenth)).collect();
    let kept: Vec<Vec<Vec<u8>>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let bytes: usize = kept.iter().flatten().map(Vec::capacity).sum();
    let told = of(&heap_profile(&modules), "keep_a_tenth");
    let ratio = told as f64 / bytes as f64;
    assert!((0.7..1.3).contains(&ratio), "{told} of {bytes}");
}
