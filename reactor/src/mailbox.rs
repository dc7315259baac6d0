//! Messages from other threads, and the flag protocol that wakes the loop for them.
//!
//! A producer publishes the message, sets the flag, and writes the wake descriptor only if the flag was clear. The loop
//! drains the wake descriptor, clears the flag, and looks at the queue again - in this order: clearing the flag before
//! the drain loses every later wake-up (bug-catalogue B05).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use crate::sys::Wake;
use crate::time::duration_ns;

/// No stop was asked for.
const NO_STOP: u64 = u64::MAX;

struct Shared<M> {
    queue: ArrayQueue<M>,
    /// Set while a wake-up is on its way that the loop has not yet seen.
    notified: AtomicBool,
    /// Set when the loop has stopped: nothing more is accepted.
    closed: AtomicBool,
    /// The time that a stop allows, in nanoseconds, or [`NO_STOP`].
    stop_within_ns: AtomicU64,
    waker: Arc<dyn Wake>,
}

/// Sends messages to a loop, from any thread. Cheap to clone.
pub struct Sender<M> {
    shared: Arc<Shared<M>>,
}

/// A message that was not taken, given back.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SendError<M> {
    /// The mailbox is full; try again when the loop has caught up.
    Full(M),
    /// The loop has stopped.
    Closed(M),
}

impl<M> fmt::Display for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Full(_) => f.write_str("the mailbox is full"),
            SendError::Closed(_) => f.write_str("the loop has stopped"),
        }
    }
}

impl<M: fmt::Debug> std::error::Error for SendError<M> {}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Sender<M> {
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl<M> fmt::Debug for Sender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({} queued)", self.shared.queue.len())
    }
}

impl<M> Sender<M> {
    /// Queues a message and wakes the loop.
    ///
    /// # Errors
    /// The message, when the mailbox is full or the loop has stopped.
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        self.publish(message)?;
        self.notify();
        Ok(())
    }

    /// The first half of [`Sender::send`]: queues the message without waking the loop. For batches that end with one
    /// [`Sender::notify`], and for simulated threads that stop between the two.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn publish(&self, message: M) -> Result<(), SendError<M>> {
        if self.shared.closed.load(Ordering::SeqCst) {
            return Err(SendError::Closed(message));
        }
        self.shared.queue.push(message).map_err(SendError::Full)
    }

    /// The second half of [`Sender::send`]: wakes the loop, unless a wake-up is already on its way.
    pub fn notify(&self) {
        if !self.shared.notified.swap(true, Ordering::SeqCst) {
            self.shared.waker.wake();
        }
    }

    /// Stops the loop, as [`crate::Context::stop`]; for signal handlers' threads and supervisors. It overtakes messages
    /// that are waiting.
    pub fn stop(&self, within: Duration) {
        self.shared.stop_within_ns.store(duration_ns(within).min(NO_STOP - 1), Ordering::SeqCst);
        self.notify();
    }

    /// Messages waiting.
    pub fn queued(&self) -> usize {
        self.shared.queue.len()
    }
}

/// The loop's side.
pub(crate) struct Mailbox<M> {
    shared: Arc<Shared<M>>,
}

impl<M> Mailbox<M> {
    pub fn new(messages_max: usize, waker: Arc<dyn Wake>) -> Mailbox<M> {
        Mailbox {
            shared: Arc::new(Shared {
                queue: ArrayQueue::new(messages_max),
                notified: AtomicBool::new(false),
                closed: AtomicBool::new(false),
                stop_within_ns: AtomicU64::new(NO_STOP),
                waker,
            }),
        }
    }

    pub fn sender(&self) -> Sender<M> {
        Sender { shared: Arc::clone(&self.shared) }
    }

    /// Says that the wake-up has been seen; to be called after the wake descriptor is drained and before the queue is
    /// looked at.
    pub fn acknowledge(&self) {
        self.shared.notified.swap(false, Ordering::SeqCst);
    }

    /// The time that a stop asked for by [`Sender::stop`] allows, once.
    pub fn take_stop(&self) -> Option<Duration> {
        let within_ns = self.shared.stop_within_ns.swap(NO_STOP, Ordering::SeqCst);
        (within_ns != NO_STOP).then(|| Duration::from_nanos(within_ns))
    }

    pub fn pop(&self) -> Option<M> {
        self.shared.queue.pop()
    }

    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        self.close();
    }
}
