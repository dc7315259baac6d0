//! The loop.
pub mod sys;
pub mod time;
pub mod timer;
