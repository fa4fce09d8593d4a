//! The libFuzzer program of the target `certificate_call`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sotto_fuzz::run("certificate_call", data));
