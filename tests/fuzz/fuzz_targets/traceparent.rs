//! The libFuzzer program of the target `traceparent`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sotto_fuzz::run("traceparent", data));
