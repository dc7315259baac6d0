//! What reads kept runs, on bytes that anybody may have made.
#![no_main]

use tests::fuzz::{Input, KeptRun};

libfuzzer_sys::fuzz_target!(|input: Input<KeptRun>| input.check());
