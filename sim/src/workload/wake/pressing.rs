//! A producer under load: it posts on until it is told that the time is over, and lets only so many messages wait.
//!
//! With one message under way at a time, each needs a wake-up of its own, and one that is lost stops the producer for good:
//! nothing else wakes its loop.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use reactor::{SendError, Sender};

use super::{LAST, Share};
use crate::workload::{Numbered, Producer};

/// What such a producer does.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct PressingPlan {
    /// Messages that may wait, at least 1.
    pub window: u64,
    /// Messages published before one notification, at most `window`.
    pub batch: u64,
    /// Between two batches, in nanoseconds.
    pub gap_ns: u64,
    /// Between publishing and notifying, in nanoseconds.
    pub half_ns: u64,
}

/// Before a producer looks again whether its messages have been taken.
const LOOK_NS: u64 = 20_000;

/// The longest that a producer rests without looking whether the time is over.
const REST_NS_MAX: u64 = 100_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Pressing {
    plan: PressingPlan,
    producer: u32,
    published: u64,
    notified: u64,
    has_said_last: bool,
    /// What is left of the time between two batches.
    rest_ns: u64,
    share: Arc<Share>,
    sender: Sender<Numbered>,
}

impl Pressing {
    pub(super) fn new(
        plan: PressingPlan,
        producer: u32,
        share: Arc<Share>,
        sender: Sender<Numbered>,
    ) -> Pressing {
        Pressing {
            plan,
            producer,
            published: 0,
            notified: 0,
            has_said_last: false,
            rest_ns: 0,
            share,
            sender,
        }
    }

    fn notify(&mut self) {
        self.sender.notify();
        self.share.notified.fetch_add(self.published - self.notified, Ordering::SeqCst);
        self.notified = self.published;
    }

    fn publish(&mut self, number: u64) -> Option<u64> {
        match self.sender.publish(Numbered { producer: self.producer, number }) {
            Ok(()) => {
                self.has_said_last = number == LAST;
                self.published += 1;
                Some(self.plan.half_ns)
            }
            Err(SendError::Full(_)) => {
                // What is published may wait for its notification; without it nothing would ever make room.
                if self.published > self.notified {
                    self.notify();
                }
                Some(LOOK_NS)
            }
            Err(SendError::Closed(_)) => None,
        }
    }
}

impl Producer for Pressing {
    fn step(&mut self) -> Option<u64> {
        let unnotified = self.published - self.notified;
        if unnotified > 0 && (unnotified >= self.plan.batch || self.has_said_last) {
            self.notify();
            self.rest_ns = self.plan.gap_ns;
            return (!self.has_said_last).then_some(0);
        }
        let is_over = self.share.over.load(Ordering::SeqCst);
        if self.rest_ns > 0 && !is_over {
            let rest_ns = self.rest_ns.min(REST_NS_MAX);
            self.rest_ns -= rest_ns;
            return Some(rest_ns);
        }
        let waiting = self.published - self.share.taken[self.producer as usize].load(Ordering::SeqCst);
        if waiting >= self.plan.window && !is_over {
            if unnotified > 0 {
                self.notify();
            }
            return Some(LOOK_NS);
        }
        self.publish(if is_over { LAST } else { self.published })
    }
}
