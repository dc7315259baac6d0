//! The whole loop under the timers workload.
#![no_main]

use tests::fuzz::{Input, LoopTimers};

libfuzzer_sys::fuzz_target!(|input: Input<LoopTimers>| input.check());
