//! The loop's inner structures, one by one, for models that run beside them: property tests and fuzz targets.
//!
//! No part of the interface: these change whenever the loop does. Each type only forwards, so that what a model exercises
//! is what the loop runs.

use std::io::IoSlice;

use bytes::Bytes;

use crate::config::Config;
use crate::handler::Pressure;
use crate::poller::{Poller, Ready, Source};
use crate::pressure::Watermark;
use crate::registry::{NO_FD, Phase, Registry};
use crate::sys::{Errno, Fd, Syscalls, Wait};
use crate::token::Token;
use crate::write_queue::{SEGMENTS_PER_WRITE_MAX, WriteQueue};

/// What one connection has to send, with its watermarks.
#[derive(Debug)]
pub struct Output {
    queue: WriteQueue,
    mark: Watermark,
    config: Config,
}

impl Output {
    /// An empty queue under the watermarks of a configuration.
    pub fn new(config: Config) -> Output {
        Output { queue: WriteQueue::default(), mark: Watermark::default(), config }
    }

    /// Queues a copy.
    pub fn push_copy(&mut self, bytes: &[u8]) {
        self.queue.push_copy(bytes);
        self.note();
    }

    /// Queues shared bytes.
    pub fn push_shared(&mut self, bytes: Bytes) {
        self.queue.push_shared(bytes);
        self.note();
    }

    /// What one write would pass to the kernel, gathered, and in how many segments.
    pub fn offer(&self, segments_max: usize, bytes_max: usize) -> (Vec<u8>, usize) {
        if let Some(bytes) = self.queue.single(segments_max, bytes_max) {
            return (bytes.to_vec(), usize::from(!bytes.is_empty()));
        }
        let mut slices = [IoSlice::new(&[]); SEGMENTS_PER_WRITE_MAX];
        let (count, total) = self.queue.gather(&mut slices, segments_max, bytes_max);
        let mut bytes = Vec::with_capacity(total);
        slices[..count].iter().for_each(|slice| bytes.extend_from_slice(slice));
        assert_eq!(bytes.len(), total, "write queue: the sum differs from what is gathered");
        (bytes, count)
    }

    /// The kernel has taken so many bytes.
    pub fn advance(&mut self, sent: usize) {
        self.queue.advance(sent);
        self.note();
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.note();
    }

    /// Bytes queued.
    pub fn bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether it rose above the high mark and has not yet come down to the low one.
    pub fn is_above(&self) -> bool {
        self.mark.is_above()
    }

    /// What the handler would be told now.
    pub fn take_news(&mut self) -> Option<Pressure> {
        self.mark.take_news()
    }

    /// Asserts the queue's own invariant.
    pub fn assert_invariants(&self) {
        self.queue.assert_invariants();
    }

    fn note(&mut self) {
        self.mark.note(self.queue.bytes(), &self.config);
    }
}

/// The registry, with a tag for each tenant.
#[derive(Debug)]
pub struct Tenants(Registry);

impl Tenants {
    /// An empty registry.
    pub fn new(slots_max: u32, generation_start: u32) -> Tenants {
        Tenants(Registry::new(slots_max, generation_start))
    }

    /// Takes a free slot.
    pub fn insert(&mut self, tag: u64) -> Option<Token> {
        self.0.insert(Phase::Requested, NO_FD, tag)
    }

    /// Ends a tenancy. The token has to be live.
    pub fn remove(&mut self, token: Token) {
        self.0.remove(token);
    }

    /// The tag of a live tenant.
    pub fn tag(&self, token: Token) -> Option<u64> {
        self.0.get(token).map(|slot| slot.tag)
    }

    /// Sets the tag of a live tenant. Answers whether there is one.
    pub fn set_tag(&mut self, token: Token, tag: u64) -> bool {
        self.0.get_mut(token).map(|slot| slot.tag = tag).is_some()
    }

    /// How many tenants are live.
    pub fn live(&self) -> usize {
        self.0.live()
    }

    /// Their tokens, in slot order.
    pub fn tokens(&self) -> Vec<Token> {
        self.0.tokens()
    }

    /// Asserts the registry's own invariant.
    pub fn assert_invariants(&self) {
        self.0.assert_invariants();
    }
}

/// What is watched.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Watched {
    /// A listener.
    Listener,
    /// A connection that is being made.
    Connecting,
    /// An open connection.
    Stream,
}

/// An event, translated.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Translated {
    /// Whom it is for.
    pub token: Token,
    /// Reading may make progress.
    pub readable: bool,
    /// Writing may make progress.
    pub writable: bool,
    /// The peer has finished sending, or the connection is gone.
    pub hangup: bool,
    /// The kernel has an error for the connection.
    pub failed: bool,
    /// The kernel refused to watch the source.
    pub refused: Option<Errno>,
}

/// The poller of the loop, over any system calls.
#[derive(Debug)]
pub struct Translation(Poller);

impl Translation {
    /// A poller.
    ///
    /// # Errors
    /// Those of the calls that make one.
    pub fn new<S: Syscalls>(sys: &mut S, events_per_wait: usize) -> Result<Translation, Errno> {
        Poller::new(sys, events_per_wait).map(Translation)
    }

    /// Watches a source.
    ///
    /// # Errors
    /// Those of the call that registers, where there is one.
    pub fn register<S: Syscalls>(
        &mut self,
        sys: &mut S,
        fd: Fd,
        token: Token,
        what: Watched,
    ) -> Result<(), Errno> {
        let source = match what {
            Watched::Listener => Source::Listener,
            Watched::Connecting => Source::Connecting,
            Watched::Stream => Source::Stream,
        };
        self.0.register(sys, fd, token, source)
    }

    /// Asks for one report of writability.
    pub fn arm_write(&mut self, fd: Fd, token: Token) {
        self.0.arm_write(fd, token);
    }

    /// Forgets what is queued for a descriptor.
    pub fn forget(&mut self, fd: Fd) {
        self.0.forget(fd);
    }

    /// Waits.
    ///
    /// # Errors
    /// Those of the call that waits.
    pub fn wait<S: Syscalls>(&mut self, sys: &mut S, timeout_ns: Option<u64>) -> Result<Wait, Errno> {
        self.0.wait(sys, timeout_ns)
    }

    /// An event of the last wait.
    pub fn report(&self, index: usize) -> Translated {
        let report = self.0.report(index);
        let is = |bit| report.ready.contains(bit);
        Translated {
            token: report.token,
            readable: is(Ready::READABLE),
            writable: is(Ready::WRITABLE),
            hangup: is(Ready::HANGUP),
            failed: is(Ready::FAILED),
            refused: report.refused,
        }
    }
}
