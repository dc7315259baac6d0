//! The whole loop under the echo workload: every decision of the simulated world is drawn from the fuzzer's bytes.
//!
//! A crash opens with `sim replay FILE`, `sim shrink FILE` and `sim trace FILE`; so do those of the other loops.
#![no_main]

use tests::fuzz::{Input, LoopEcho};

libfuzzer_sys::fuzz_target!(|input: Input<LoopEcho>| input.check());
