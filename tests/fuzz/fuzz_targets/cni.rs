//! The libFuzzer program of the target `cni`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sotto_fuzz::run("cni", data));
