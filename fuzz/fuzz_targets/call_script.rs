//! What reads scripts of system calls, on any text.
#![no_main]

use tests::fuzz::{CallScript, Input};

libfuzzer_sys::fuzz_target!(|input: Input<CallScript>| input.check());
