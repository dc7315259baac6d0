//! System calls at random on the live kernel and on the simulated one; the calls are drawn from the fuzzer's bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sim::conform::check_bytes(bytes));
