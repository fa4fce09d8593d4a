//! The libFuzzer program of the target `signing_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sotto_fuzz::run("signing_request", data));
