//! Cases shared by the integration tests.
pub mod timer_model;
