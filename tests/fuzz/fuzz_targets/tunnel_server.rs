//! The libFuzzer program of the target `tunnel_server`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sotto_fuzz::run("tunnel_server", data));
