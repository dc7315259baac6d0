//! The whole loop under the echo workload: every decision of the simulated world is drawn from the fuzzer's bytes.
//!
//! A crash replays with `cargo run --release -p sim -- replay FILE`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sim::check_bytes(sim::WorkloadKind::Echo, bytes));
