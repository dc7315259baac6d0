//! The registry against a map of tokens.
#![no_main]

use tests::fuzz::{Input, Registry};

libfuzzer_sys::fuzz_target!(|input: Input<Registry>| input.check());
