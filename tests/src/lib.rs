//! Cases shared by the integration tests.

pub mod planted;
