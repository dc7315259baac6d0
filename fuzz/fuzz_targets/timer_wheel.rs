//! The timer wheel against an ordered map.
#![no_main]

use tests::fuzz::{Input, TimerWheel};

libfuzzer_sys::fuzz_target!(|input: Input<TimerWheel>| input.check());
