//! One configuration for every property, so that a test run is a function of the source alone.

use proptest::test_runner::{Config, RngSeed};

/// `cases` cases from a fixed seed. Nothing is written beside the sources: a failure prints its input, and becomes a
/// test of its own.
pub fn config(cases: u32) -> Config {
    Config {
        cases,
        rng_seed: RngSeed::Fixed(0x7ea5_1ed5_eed5_0001),
        failure_persistence: None,
        ..Config::default()
    }
}
