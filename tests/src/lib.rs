//! Cases shared by the integration tests.

pub mod planted;
pub mod timer_model;

/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
