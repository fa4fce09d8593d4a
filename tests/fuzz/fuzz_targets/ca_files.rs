//! The libFuzzer program of the target `ca_files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sotto_fuzz::run("ca_files", data));
