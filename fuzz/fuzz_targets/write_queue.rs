//! The write queue and its watermarks against positions in a stream.
#![no_main]

use tests::fuzz::{Input, WriteQueue};

libfuzzer_sys::fuzz_target!(|input: Input<WriteQueue>| input.check());
