//! Cases shared by the integration tests.

pub mod planted;
pub mod timer_model;
