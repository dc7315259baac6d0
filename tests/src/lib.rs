//! Cases shared by the integration tests.

pub mod account;
pub mod fuzz;
pub mod kqueue_model;
#[cfg(all(target_os = "linux", feature = "libkqueue"))]
pub mod libkqueue;
pub mod operands;
pub mod output_model;
pub mod planted;
pub mod real_episode;
pub mod registry_model;
pub mod timer_model;
