//! The libFuzzer program of the target `proxy_status`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sotto_fuzz::run("proxy_status", data));
