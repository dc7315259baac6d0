//! The loop.
pub mod sys;
pub mod time;
