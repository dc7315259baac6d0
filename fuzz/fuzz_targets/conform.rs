//! System calls at random on the live kernel and on the simulated one; the calls are drawn from the fuzzer's bytes.
#![no_main]

use tests::fuzz::{Conform, Input};

libfuzzer_sys::fuzz_target!(|input: Input<Conform>| input.check());
