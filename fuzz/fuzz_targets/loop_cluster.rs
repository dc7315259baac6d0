//! Several loops on several hosts that fail.
#![no_main]

use tests::fuzz::{Input, LoopCluster};

libfuzzer_sys::fuzz_target!(|input: Input<LoopCluster>| input.check());
