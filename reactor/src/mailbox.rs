//! Messages from other threads, and the flag protocol that wakes the loop for them.
//!
//! A producer publishes the message, sets the flag, and writes the wake descriptor only if the flag was clear. The loop
//! drains the wake descriptor, clears the flag, and looks at the queue again - in this order: clearing the flag before
//! the drain loses every later wake-up (bug-catalogue B05).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::sync::{ArrayQueue, AtomicBool, AtomicU64, Ordering};
use crate::sys::Wake;
use crate::time::duration_ns;

/// No stop was asked for.
const NO_STOP: u64 = u64::MAX;

/// What the protocol is built of; loom's own under `cfg(loom)`, so that a model sees every interleaving of them.
#[cfg(not(loom))]
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    pub(super) use crossbeam_queue::ArrayQueue;
}

/// The queue is a mutex here: only the flag protocol is modelled, not the queue.
#[cfg(loom)]
mod sync {
    use std::collections::VecDeque;

    use loom::sync::Mutex;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    pub(super) struct ArrayQueue<M> {
        messages: Mutex<VecDeque<M>>,
        messages_max: usize,
    }

    impl<M> ArrayQueue<M> {
        pub fn new(messages_max: usize) -> ArrayQueue<M> {
            ArrayQueue { messages: Mutex::new(VecDeque::new()), messages_max }
        }

        pub fn push(&self, message: M) -> Result<(), M> {
            let mut messages = self.messages.lock().expect("no holder panics");
            if messages.len() == self.messages_max {
                return Err(message);
            }
            messages.push_back(message);
            Ok(())
        }

        pub fn pop(&self) -> Option<M> {
            self.messages.lock().expect("no holder panics").pop_front()
        }

        pub fn len(&self) -> usize {
            self.messages.lock().expect("no holder panics").len()
        }

        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }
    }
}

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

/// The wake-up protocol over every interleaving and every legal reordering of its atomics (bug-catalogue B05, B19, B51,
/// B98): `RUSTFLAGS='--cfg loom' cargo test --release -p reactor --lib mailbox`.
#[cfg(all(test, loom))]
mod model {
    use std::sync::Arc;

    use loom::sync::{Condvar, Mutex};
    use loom::thread;

    use super::{Mailbox, Wake};

    /// An eventfd: a counter that a wait sleeps on.
    #[derive(Debug, Default)]
    struct Eventfd {
        counter: Mutex<u64>,
        written: Condvar,
    }

    impl Wake for Eventfd {
        fn wake(&self) {
            *self.counter.lock().expect("no holder panics") += 1;
            self.written.notify_all();
        }
    }

    impl Eventfd {
        /// The wait: returns when the counter is not zero, without taking it.
        fn wait(&self) {
            let mut counter = self.counter.lock().expect("no holder panics");
            while *counter == 0 {
                counter = self.written.wait(counter).expect("no holder panics");
            }
        }

        fn drain(&self) {
            *self.counter.lock().expect("no holder panics") = 0;
        }
    }

    /// The loop's side: sleeps, then does what `Reactor::deliver_messages` does, until it has all messages. A lost wake-up
    /// leaves it asleep for ever, which loom reports as a deadlock.
    fn receive_all(mailbox: &Mailbox<u32>, eventfd: &Eventfd, messages: usize) -> Vec<u32> {
        let mut received = Vec::new();
        while received.len() < messages {
            eventfd.wait();
            eventfd.drain();
            mailbox.acknowledge();
            received.extend(std::iter::from_fn(|| mailbox.pop()));
        }
        received
    }

    #[test]
    fn no_interleaving_of_two_producers_loses_a_wake_up() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let eventfd = Arc::new(Eventfd::default());
            let mailbox = Mailbox::new(4, Arc::clone(&eventfd) as Arc<dyn Wake>);
            let producers: Vec<_> = (0..2)
                .map(|number| {
                    let sender = mailbox.sender();
                    thread::spawn(move || sender.send(number).expect("room"))
                })
                .collect();
            let mut received = receive_all(&mailbox, &eventfd, 2);
            received.sort_unstable();
            assert_eq!(received, [0, 1]);
            for producer in producers {
                producer.join().expect("no panic");
            }
        });
    }

    /// Three, since a flag that is left set loses the message after the one whose wake-up was swallowed.
    #[test]
    fn no_interleaving_loses_one_of_three_messages() {
        loom::model(|| {
            let eventfd = Arc::new(Eventfd::default());
            let mailbox = Mailbox::new(4, Arc::clone(&eventfd) as Arc<dyn Wake>);
            let sender = mailbox.sender();
            let producer = thread::spawn(move || {
                sender.send(0).expect("room");
                sender.send(1).expect("room");
                sender.send(2).expect("room");
            });
            assert_eq!(receive_all(&mailbox, &eventfd, 3), [0, 1, 2]);
            producer.join().expect("no panic");
        });
    }
}
