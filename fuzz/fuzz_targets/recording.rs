//! What reads recordings of real sockets, and plays them, on bytes that anybody may have made.
#![no_main]

use tests::fuzz::{Input, RealRecording};

libfuzzer_sys::fuzz_target!(|input: Input<RealRecording>| input.check());
