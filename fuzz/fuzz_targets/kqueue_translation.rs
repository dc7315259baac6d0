//! The kqueue poller between arbitrary requests and arbitrary event lists.
#![no_main]

use tests::fuzz::{Input, KqueueTranslation};

libfuzzer_sys::fuzz_target!(|input: Input<KqueueTranslation>| input.check());
