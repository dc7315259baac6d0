//! The loop itself: one turn, on one screen.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Config;
use crate::context::Context;
use crate::counters::Counters;
use crate::handler::{CloseReason, Handler};
use crate::mailbox::{Mailbox, Sender};
use crate::poller::{Poller, Ready};
use crate::registry::{Flags, NO_FD, Phase};
use crate::state::{LoopState, Stop, timer_kind};
use crate::sys::{Errno, Fd, SocketOption, Syscalls, Wait};
use crate::time::Instant;
use crate::token::Token;

/// An event loop over a world `S`, serving an application `H`.
///
/// Call [`Reactor::turn`] until it answers [`Turn::Stopped`], or [`Reactor::run`].
///
/// # Portability
/// The application sees the same calls in the same order of cause and effect on epoll and on kqueue. What may differ is
/// how bytes are cut into [`Handler::on_data`] calls, and the order in which different connections are served.
pub struct Reactor<S: Syscalls, H: Handler> {
    pub(crate) sys: S,
    pub(crate) handler: H,
    pub(crate) poller: Poller,
    pub(crate) state: LoopState,
    /// The application's state for each slot that has an open connection.
    pub(crate) connections: Vec<Option<H::Connection>>,
    pub(crate) mailbox: Mailbox<H::Message>,
    /// What a read goes into; its bytes live only until the handler returns.
    pub(crate) chunk: Vec<u8>,
    /// A descriptor held back, to be given up when there are no others: with it a connection that cannot be served is
    /// taken out of the queue and dropped, instead of being reported for ever (bug-catalogue B22).
    pub(crate) reserve: Option<Fd>,
    /// The wait was parked by a simulated kernel and has to be entered again.
    parked: bool,
    /// The waker's event was seen and has not been answered.
    woken: bool,
    /// Messages were left in the mailbox when the budget ended.
    messages_left: bool,
    stopped: bool,
    /// Lists that are emptied while handlers may add to their successors.
    serving: Vec<Token>,
    flushing: Vec<Token>,
    releasing: Vec<Token>,
}

/// How a turn ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It ran to its end.
    Ran,
    /// A simulated kernel put the thread to sleep in the middle; call again when it says so. Never on a real kernel.
    Parked,
    /// The loop has been stopped and everything is closed.
    Stopped,
}

/// What a listener is made with, beside its address.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// How many completed connections the kernel may queue.
    pub backlog: u32,
    /// Options set before `bind(2)`. Accepted sockets inherit them, so nothing needs to be set per connection.
    pub options: Vec<SocketOption>,
}

impl Default for ListenOptions {
    /// Backlog 1024, address reuse, no Nagle delay.
    fn default() -> ListenOptions {
        ListenOptions {
            backlog: 1024,
            options: vec![SocketOption::ReuseAddress(true), SocketOption::NoDelay(true)],
        }
    }
}

impl<S: Syscalls, H: Handler> Reactor<S, H> {
    /// Makes a loop. It holds three descriptors of its own on Linux (poll, wake, reserve) and the waker's duplicate, two
    /// and the duplicate elsewhere.
    ///
    /// # Errors
    /// Those of the calls that make its descriptors, most likely `EMFILE`.
    ///
    /// # Panics
    /// When [`Config::check`] refuses the configuration.
    pub fn new(mut sys: S, config: Config, handler: H) -> Result<Reactor<S, H>, Errno> {
        if let Err(rule) = config.check() {
            panic!("configuration refused: {rule}");
        }
        let mut poller = Poller::new(&mut sys, config.events_per_wait)?;
        let waker = match sys.waker(poller.wake_target()) {
            Ok(waker) => waker,
            Err(error) => {
                poller.close(&mut sys);
                return Err(error);
            }
        };
        let now = sys.clock_gettime();
        let mailbox = Mailbox::new(config.mailbox_messages_max, waker);
        let mut reactor = Reactor {
            chunk: vec![0; config.read_bytes],
            state: LoopState::new(config, now),
            connections: Vec::new(),
            sys,
            handler,
            poller,
            mailbox,
            reserve: None,
            parked: false,
            woken: false,
            messages_left: false,
            stopped: false,
            serving: Vec::new(),
            flushing: Vec::new(),
            releasing: Vec::new(),
        };
        reactor.restore_reserve();
        Ok(reactor)
    }

    /// Opens a listener; `tag` comes back in each connection's origin.
    ///
    /// # Errors
    /// Those of `socket`, `setsockopt`, `bind`, `listen` and of the registration: `EADDRINUSE`, `EACCES`,
    /// `EADDRNOTAVAIL`, `EMFILE` (also when `Config::connections_max` is reached).
    pub fn listen(&mut self, address: SocketAddr, options: &ListenOptions, tag: u64) -> Result<Token, Errno> {
        self.open_listener(address, options, tag)
    }

    /// The address a listener, or a connection, is bound to: the way to learn the port when zero was asked for.
    ///
    /// # Errors
    /// `EBADF` for a dead token.
    pub fn local_address(&mut self, token: Token) -> Result<SocketAddr, Errno> {
        let fd = self.state.registry.get(token).map(|slot| slot.fd).filter(|fd| *fd != NO_FD);
        self.sys.getsockname(fd.ok_or(Errno::EBADF)?)
    }

    /// Sends messages to this loop from other threads.
    pub fn sender(&self) -> Sender<H::Message> {
        self.mailbox.sender()
    }

    /// Acts on the loop from outside a handler, between turns: the first connects, the first timers.
    pub fn with<R>(&mut self, act: impl FnOnce(&mut H, &mut Context<'_>) -> R) -> R {
        act(&mut self.handler, &mut Context::new(&mut self.state))
    }

    /// The application.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// What the loop has counted.
    pub fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// What the timer wheel has counted, the loop's own timers included.
    pub fn timer_counters(&self) -> crate::timer::TimerCounters {
        self.state.timers.counters()
    }

    /// Timers that are armed or due and have not run, the loop's own included.
    pub fn timers_pending(&self) -> usize {
        self.state.timers.len()
    }

    /// Whether this is a live connection or listener.
    pub fn is_live(&self, token: Token) -> bool {
        self.state.registry.get(token).is_some()
    }

    /// Live connections and listeners.
    pub fn live(&self) -> usize {
        self.state.registry.live()
    }

    /// Reads the clock again: for the deadlines of timers that a long handler arms afterwards.
    pub fn refresh_now(&mut self) -> Instant {
        self.state.now = self.sys.clock_gettime().max(self.state.now);
        self.state.now
    }

    /// Messages that were accepted and will not be delivered, because the loop has stopped.
    pub fn undelivered(&mut self) -> Vec<H::Message> {
        if !self.stopped {
            return Vec::new();
        }
        std::iter::from_fn(|| self.mailbox.pop()).collect()
    }

    /// Turns until the loop is stopped.
    ///
    /// # Errors
    /// As [`Reactor::turn`].
    pub fn run(&mut self) -> Result<(), Errno> {
        while self.turn()? != Turn::Stopped {}
        Ok(())
    }

    /// Asks for a stop, as [`Context::stop`].
    pub fn stop(&mut self, within: Duration) {
        Context::new(&mut self.state).stop(within);
    }

    /// One turn of the loop.
    ///
    /// # Errors
    /// An error of the wait itself other than `EINTR`: the poll descriptor is unusable, which no legal kernel does to a
    /// correct loop. Errors of single connections never end a turn.
    pub fn turn(&mut self) -> Result<Turn, Errno> {
        if self.stopped {
            return Ok(Turn::Stopped);
        }
        if !self.parked {
            self.carry_out_deferred(); // (1)
        }
        let timeout_ns = self.wait_budget_ns(); // (2)
        let events = match self.poller.wait(&mut self.sys, timeout_ns) {
            // (3)
            Ok(Wait::Ready(events)) => events,
            Ok(Wait::Parked) => {
                self.parked = true;
                return Ok(Turn::Parked);
            }
            // The rest of the timeout is computed anew from the clock in the next turn (bug-catalogue B40).
            Err(Errno::EINTR) => {
                self.state.counters.waits_interrupted += 1;
                0
            }
            Err(error) => return Err(error),
        };
        self.parked = false;
        let work_before = self.work_done();
        let wakeup = self.state.timers.next_wakeup();
        self.state.now = self.sys.clock_gettime().max(self.state.now); // (4)
        self.fire_timers(); // (5)
        self.collect_events(events); // (6)
        self.serve_run_queue(); // (7)
        self.deliver_messages(); // (8)
        self.look_at_stop();
        self.release_closed(); // (9)
        self.state.counters.turns += 1;
        // A wake-up for the wheel's own housekeeping is not empty either.
        if self.work_done() == work_before && wakeup.is_none_or(|wakeup| wakeup > self.state.now) {
            self.state.counters.turns_empty += 1;
        }
        if self.is_finished() {
            self.end();
            return Ok(Turn::Stopped);
        }
        Ok(Turn::Ran)
    }

    /// How long the wait may last: not at all while there is work, else until the next timer.
    fn wait_budget_ns(&mut self) -> Option<u64> {
        if self.parked {
            // The kernel knows: this is the wait that has already begun.
            return None;
        }
        if self.state.has_work() || self.messages_left {
            return Some(0);
        }
        let wakeup = self.state.timers.next_wakeup()?;
        // Handlers and flushes have taken time since the turn's clock was read.
        self.state.now = self.sys.clock_gettime().max(self.state.now);
        Some(wakeup.saturating_ns_since(self.state.now))
    }

    /// (1) The system calls that handlers have caused, one vectored write per connection.
    fn carry_out_deferred(&mut self) {
        std::mem::swap(&mut self.state.dirty, &mut self.flushing);
        for index in 0..self.flushing.len() {
            let token = self.flushing[index];
            let Some(slot) = self.state.registry.get_mut(token) else { continue };
            // Flushed meanwhile.
            if !slot.flags.contains(Flags::DIRTY) {
                continue;
            }
            slot.flags -= Flags::DIRTY;
            match slot.phase {
                Phase::Requested => self.start_connect(token),
                Phase::Open | Phase::Draining => self.flush(token),
                Phase::Free | Phase::Listener | Phase::Connecting | Phase::Lingering | Phase::Closing => {}
            }
        }
        self.flushing.clear();
    }

    /// (5) Due timers, up to the budget. Each can be cancelled until it runs; one armed here waits for its next turn.
    fn fire_timers(&mut self) {
        self.state.timers.collect(self.state.now);
        for _ in 0..self.state.config.timers_per_turn {
            let Some(due) = self.state.timers.pop_due() else { break };
            self.state.counters.timers_fired += 1;
            let owner = Token::from_word(due.word);
            match due.kind {
                timer_kind::APPLICATION => {
                    self.handler.on_timer(&mut Context::new(&mut self.state), due.timer, due.word);
                }
                timer_kind::CLOSE => self.close_overdue(owner),
                timer_kind::ACCEPT => self.end_rest(owner),
                timer_kind::WRITE => self.end_write_rest(owner),
                _ => self.state.stop = Stop::Overdue,
            }
        }
    }

    /// (6) Adds what the kernel reported to each source's readiness, and queues the source.
    fn collect_events(&mut self, events: usize) {
        for index in 0..events {
            let report = self.poller.report(index);
            self.state.counters.events += 1;
            if report.token == Token::WAKER {
                self.woken = true;
                continue;
            }
            let Some(slot) = self.state.registry.get_mut(report.token) else {
                self.state.counters.events_stale += 1;
                continue;
            };
            if let Some(error) = report.refused {
                self.state.counters.registrations_failed += 1;
                self.refused(report.token, error);
                continue;
            }
            slot.ready |= report.ready;
            self.state.enqueue(report.token);
        }
    }

    /// (7) Everybody on the run queue, once each, within a budget each. Whoever has more to do queues again.
    fn serve_run_queue(&mut self) {
        std::mem::swap(&mut self.state.run_queue, &mut self.serving);
        for index in 0..self.serving.len() {
            let token = self.serving[index];
            // Looked up again each time: a handler before may have ended it (bug-catalogue B02, B14).
            let Some(slot) = self.state.registry.get_mut(token) else { continue };
            slot.flags -= Flags::QUEUED;
            match slot.phase {
                Phase::Listener => self.accept(token),
                Phase::Connecting => self.finish_connect(token),
                Phase::Open => {
                    self.serve_open(token);
                    self.flush_early(token);
                }
                Phase::Draining | Phase::Lingering => self.serve_closed(token),
                Phase::Free | Phase::Requested | Phase::Closing => {}
            }
        }
        self.serving.clear();
    }

    /// (8) Messages, up to the budget. The order of the first three steps is the wake-up protocol, see `mailbox`.
    fn deliver_messages(&mut self) {
        if self.woken {
            self.woken = false;
            self.poller.drain_wakes(&mut self.sys);
            self.sys.schedule_point("wake drained, flag not yet clear");
            self.mailbox.acknowledge();
            self.sys.schedule_point("flag clear, queue not yet looked at");
            if let Some(within) = self.mailbox.take_stop() {
                Context::new(&mut self.state).stop(within);
            }
        } else if !self.messages_left {
            return;
        }
        self.messages_left = false;
        for _ in 0..self.state.config.messages_per_turn {
            // Whoever posts after this has found the flag clear, and the wake-up is on its way.
            let Some(message) = self.mailbox.pop() else { return };
            self.state.counters.messages += 1;
            self.handler.on_message(&mut Context::new(&mut self.state), message);
        }
        self.messages_left = !self.mailbox.is_empty();
    }

    /// (9) Releases what has ended. Handlers may end more meanwhile; that waits for the next turn.
    fn release_closed(&mut self) {
        std::mem::swap(&mut self.state.closing, &mut self.releasing);
        for index in 0..self.releasing.len() {
            self.release(self.releasing[index]);
        }
        self.releasing.clear();
    }

    fn look_at_stop(&mut self) {
        match self.state.stop {
            Stop::No | Stop::Closing => {}
            Stop::Asked { within_ns } => {
                self.state.stop = Stop::Closing;
                let deadline = self.state.now.saturating_add_ns(within_ns);
                self.state.timers.arm(deadline, timer_kind::STOP, 0);
                for token in self.state.registry.tokens() {
                    self.state.begin_close(token);
                }
            }
            Stop::Overdue => {
                self.state.stop = Stop::Closing;
                for token in self.state.registry.tokens() {
                    self.state.reset(token, CloseReason::Stopped);
                }
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.state.stop == Stop::Closing && self.state.registry.live() == 0
    }

    fn end(&mut self) {
        self.stopped = true;
        self.mailbox.close();
        if let Some(fd) = self.reserve.take() {
            let _ = self.sys.close(fd);
        }
        self.poller.close(&mut self.sys);
    }

    /// A number that grows with everything a turn can achieve.
    fn work_done(&self) -> u64 {
        let counters = &self.state.counters;
        counters.events - counters.events_stale
            + counters.bytes_read
            + counters.bytes_written
            + counters.timers_fired
            + counters.messages
            + counters.accepted
            + counters.closed
            + counters.connected
            + counters.connects_failed
    }

    /// Asserts every structural invariant of the loop. For tests and simulated runs; it looks at everything.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn assert_invariants(&self) {
        self.state.registry.assert_invariants();
        self.state.timers.assert_invariants();
        for (token, slot) in self.state.registry.iter() {
            let has_state = self.connections.get(token.slot() as usize).is_some_and(Option::is_some);
            assert_eq!(
                has_state,
                slot.flags.contains(Flags::OPENED),
                "{token:?}: state without a connection"
            );
            assert!(
                slot.queued_bytes() <= self.state.config.queue_bytes_max,
                "{token:?}: queue above its limit"
            );
            let bound = self.state.config.pending_bytes_max + self.state.config.read_bytes;
            assert!(slot.pending_bytes() <= bound, "{token:?}: kept bytes above their limit");
            let must_serve = slot.phase == Phase::Open
                && slot.ready.contains(Ready::READABLE)
                && slot.paused.is_empty()
                && !slot.flags.contains(Flags::END_SEEN);
            assert!(
                !must_serve || slot.flags.contains(Flags::QUEUED) || self.stopped,
                "{token:?}: readable, not paused, and on no queue (bug-catalogue B06)"
            );
            let must_flush = matches!(slot.phase, Phase::Open | Phase::Draining)
                && slot.ready.contains(Ready::WRITABLE)
                && slot.queued_bytes() > 0;
            assert!(
                !must_flush || slot.flags.intersects(Flags::DIRTY | Flags::QUEUED) || slot.timer.is_some(),
                "{token:?}: writable, bytes queued, and on no list (bug-catalogue B07)"
            );
        }
    }
}

impl<S: Syscalls, H: Handler> fmt::Debug for Reactor<S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("live", &self.state.registry.live())
            .field("counters", &self.state.counters)
            .finish_non_exhaustive()
    }
}

/// What a loop that is dropped leaves to the kernel is its connections' queued bytes; descriptors are released.
impl<S: Syscalls, H: Handler> Drop for Reactor<S, H> {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        for token in self.state.registry.tokens() {
            let fd = self.state.slot_mut(token).fd;
            if fd != NO_FD {
                let _ = self.sys.close(fd);
            }
        }
        self.end();
    }
}
