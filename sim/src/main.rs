//! The command line of the simulator.

mod command;

/// The guard against real clocks and randomness, see [`sim::guard`]. With the library's own feature `guard` it is there
/// already.
#[cfg(all(target_os = "linux", not(feature = "guard")))]
mod guard {
    pub(crate) use sim::guard::{is_inside, named_run};

    mod symbols;
}

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
