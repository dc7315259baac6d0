//! `sim seeds`: runs that passed, as inputs that a fuzzer can start from.

use std::path::{Path, PathBuf};

use clap::Args;
use sim::decision::seed::Seed;
use sim::file;
use sim::seed_inputs;

use super::Trouble;
use super::run::parse_runs;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The folder under which each target has one: `loop_echo` ...
    #[arg(long, value_name = "DIR", default_value = "fuzz/corpus")]
    out: PathBuf,
    /// Seed of the first run
    #[arg(long, value_name = "S", default_value = "0x0000000000000000", allow_hyphen_values = true)]
    seed: Seed,
    /// How many runs of each workload to choose from
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = parse_runs)]
    runs: u64,
    /// The longest input, in bytes
    #[arg(long, value_name = "N", default_value_t = 2048)]
    bytes_max: usize,
}

pub(super) fn seeds(arguments: &Arguments) -> Result<u8, Trouble> {
    let cannot =
        |path: &Path, error| Trouble::InputOutput(format!("cannot write {}: {error}", path.display()));
    for input in seed_inputs(arguments.seed.0, arguments.runs, arguments.bytes_max) {
        let folder = arguments.out.join(format!("loop_{}", input.workload));
        let path = folder.join(&input.name);
        file::keep(&path, &input.bytes).map_err(|error| cannot(&path, error))?;
        println!("{} ({} bytes)", path.display(), input.bytes.len());
    }
    Ok(0)
}
