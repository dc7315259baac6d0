//! Cases shared by the integration tests.

#[cfg(all(target_os = "linux", feature = "libkqueue"))]
pub mod libkqueue;
pub mod planted;
pub mod timer_model;

/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
