//! What reads lists of decisions, on any text.
#![no_main]

use tests::fuzz::{DecisionScript, Input};

libfuzzer_sys::fuzz_target!(|input: Input<DecisionScript>| input.check());
