//! One structure of the loop against its model, and the simulated kernel against the live one.

use super::Target;
use crate::account::quietly;
use crate::{kqueue_model, output_model, registry_model, timer_model};

/// What a model takes of an input: every step looks at every timer, so a longer run is slower than it is new.
const BYTES_MAX: usize = 512;

fn bounded(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(BYTES_MAX)]
}

/// The timer wheel against an ordered map.
#[derive(Debug)]
pub enum TimerWheel {}

impl Target for TimerWheel {
    const NAME: &'static str = "timer_wheel";

    fn check(bytes: &[u8]) {
        timer_model::check(bounded(bytes));
    }

    fn tell(bytes: &[u8]) -> String {
        timer_model::tell(bounded(bytes))
    }
}

/// The write queue and its watermarks against positions in a stream.
#[derive(Debug)]
pub enum WriteQueue {}

impl Target for WriteQueue {
    const NAME: &'static str = "write_queue";

    fn check(bytes: &[u8]) {
        output_model::check(bytes);
    }

    fn tell(bytes: &[u8]) -> String {
        output_model::tell(bytes)
    }
}

/// The registry against a map of tokens.
#[derive(Debug)]
pub enum Registry {}

impl Target for Registry {
    const NAME: &'static str = "registry";

    fn check(bytes: &[u8]) {
        registry_model::check(bytes);
    }

    fn tell(bytes: &[u8]) -> String {
        registry_model::tell(bytes)
    }
}

/// The kqueue poller between arbitrary requests and arbitrary event lists.
#[derive(Debug)]
pub enum KqueueTranslation {}

impl Target for KqueueTranslation {
    const NAME: &'static str = "kqueue_translation";

    fn check(bytes: &[u8]) {
        kqueue_model::check(bytes);
    }

    fn tell(bytes: &[u8]) -> String {
        kqueue_model::tell(bytes)
    }
}

/// System calls at random on the live kernel and on the simulated one.
#[derive(Debug)]
pub enum Conform {}

impl Target for Conform {
    const NAME: &'static str = "conform";

    fn check(bytes: &[u8]) {
        sim::conform::check_bytes(bytes);
    }

    fn tell(bytes: &[u8]) -> String {
        quietly(|| sim::conform::tell_bytes(bytes))
            .unwrap_or_else(|panic| format!("BROKEN: a panic: {panic}"))
    }
}
