//! A second of every fuzz target, on any toolchain: all seeds, then mutations that are the same in every run.
//!
//! `SOTTO_FUZZ_SECONDS` makes it longer. A failure names the input; save it in `seeds/<target>/` with the fix.
#![expect(clippy::print_stdout, reason = "how much was tried, for `--nocapture`")]

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use fastrand::Rng;
use sotto_fuzz::{Target, mutate};

/// Fewer mutations than this would prove nothing: a target that is so slow is broken.
const LEAST: u64 = 50;

fn smoke(name: &str) {
    let target = Target::ALL.into_iter().find(|target| target.name == name).expect("a target of that name");
    let seconds = std::env::var_os("SOTTO_FUZZ_SECONDS");
    let seconds = seconds.and_then(|text| text.to_str()?.parse().ok()).unwrap_or(1);
    let seeds = target.seeds();
    assert!(!seeds.is_empty());
    for (number, seed) in seeds.iter().enumerate() {
        check(&target, seed, &format!("seed {number}"));
    }
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut rng = Rng::with_seed(0x5077_0000);
    let mut count = 0;
    while count < LEAST || Instant::now() < until {
        check(&target, &mutate::mutant(&seeds, target.words, &mut rng), &format!("mutation {count}"));
        count += 1;
    }
    println!("{name}: {} seeds, {count} mutations", seeds.len());
}

fn check(target: &Target, input: &[u8], what: &str) {
    let (name, run) = (target.name, target.check);
    if catch_unwind(|| run(input)).is_err() {
        panic!("{name} broke at {what}, whose bytes are:\n{}", input.escape_ascii());
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { smoke(stringify!($name)); })*

        #[test]
        fn every_target_is_here() {
            let here = [$(stringify!($name)),*];
            let all: Vec<_> = Target::ALL.iter().map(|target| target.name).collect();
            assert_eq!(here.as_slice(), all);
        }
    };
}

targets! {
    authority baggage ca_files certificate certificate_call cni forwarded frames identity manifests proxy_status redirect
    signing_request traceparent tunnel_server
}
