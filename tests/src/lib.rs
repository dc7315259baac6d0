//! Cases shared by the integration tests.
