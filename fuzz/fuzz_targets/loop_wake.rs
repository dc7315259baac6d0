//! The whole loop under the wake workload.
#![no_main]

use tests::fuzz::{Input, LoopWake};

libfuzzer_sys::fuzz_target!(|input: Input<LoopWake>| input.check());
