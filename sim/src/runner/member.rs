//! One loop of a run, with its party and the checks that follow each of its turns.

use std::net::SocketAddr;

use reactor::sys::{Errno, Fd};
use reactor::{Config, ListenOptions, Reactor, Turn};

use super::panics;
use crate::audit::{Audited, Witness};
use crate::guard::Inside;
use crate::kernel::Object;
use crate::schedule::ThreadId;
use crate::seam::{Asked, Seam, Tamper};
use crate::violation::Excuse;
use crate::workload::{Breach, Party, TurnFacts};
use crate::world::{ProcessId, SharedWorld};

/// How often the structure of a loop is looked at, in turns. A look takes as long as there are connections, so that a loop
/// with more of them is looked at less often.
const LOOK_EVERY_TURNS: u64 = 64;

/// The longest timeout that `epoll_wait(2)` takes: 24.8 days (kernel-semantics C6).
const TIMEOUT_NS_MAX: u64 = i32::MAX as u64 * 1_000_000;

/// Turning a connection away takes an accept beyond the budget, and one that finds out.
const ACCEPTS_TO_SHED: u32 = 2;

/// How long a program waits before it tries again to begin.
const RETRY_NS: u64 = 20_000_000;

/// Knows what the world did to the connections of one process.
struct WorldWitness {
    world: SharedWorld,
    process: ProcessId,
}

impl Witness for WorldWitness {
    fn unread_bytes(&self, fd: Fd) -> u64 {
        let world = self.world.borrow();
        match world.processes[self.process.0 as usize].get(fd) {
            Some(Object::Socket(socket)) => world.readable(socket),
            _ => 0,
        }
    }

    fn excuses(&self, fd: Fd) -> bool {
        let world = self.world.borrow();
        let Some(Object::Socket(socket)) = world.processes[self.process.0 as usize].get(fd) else {
            return false;
        };
        let connection = world.sockets[socket].connection;
        let Some(connection) = world.connections.get(connection) else { return false };
        let [client, server] = connection.addresses;
        // What one of the parties did is in that party's own ledger; it excuses nothing by itself.
        matches!(
            world.excuses.get(&(client, server)),
            Some(
                Excuse::Injected
                    | Excuse::ConnectFailed
                    | Excuse::Refused
                    | Excuse::AbortedAtAccept
                    | Excuse::ListenerClosed
                    | Excuse::ProcessKilled
                    | Excuse::HostCrashed
                    | Excuse::KeptApart
            )
        )
    }
}

impl SharedWorld {
    /// Whether the thread sleeps in a wait, and is not merely stopped with a batch that the wait has already given it.
    pub(crate) fn is_asleep(&self, thread: ThreadId) -> bool {
        let world = self.borrow();
        let entry = &world.threads[thread.0 as usize];
        entry.sleep.is_some_and(|sleep| !sleep.stalled)
    }
}

/// See the module.
pub(super) struct Member<P: Party> {
    pub(super) reactor: Reactor<Seam, Audited<P>>,
    pub(super) thread: ThreadId,
    pub(super) process: ProcessId,
    pub(super) stopped: bool,
    asked: Asked,
    config: Config,
    wait_rounding_ns: u64,
    progress: u64,
    timers_fired: u64,
    turns_empty: u64,
    /// The turn after which the structure is looked at next.
    look_at: u64,
    oracles: bool,
    /// The party hears of a turn when it is over, as on a real kernel, and not also where it sleeps: what a recorded party did may
    /// follow from what it heard.
    pub(super) hears_of_whole_turns: bool,
    listener: Option<reactor::Token>,
}

impl<P: Party> Member<P> {
    /// Makes a loop on a new thread of `process`. Under faults that may take several attempts.
    pub(super) fn new(
        world: &SharedWorld,
        process: ProcessId,
        config: &Config,
        party: impl Fn() -> P,
        tamper: Option<Tamper>,
        oracles: bool,
    ) -> Result<Member<P>, Breach> {
        const ATTEMPTS: u32 = 200;
        let calls = world.add_thread_to(process);
        let thread = calls.thread();
        let before = world.open_descriptors(process).len();
        for _ in 0..ATTEMPTS {
            let witness: Box<dyn Witness> = Box::new(WorldWitness { world: world.clone(), process });
            let mut audited = Audited::new(party(), config, Some(witness));
            if !oracles {
                audited.disable();
            }
            let seam = Seam::new(calls.clone(), tamper);
            let asked = seam.asked();
            let wait_rounding_ns = match reactor::sys::Syscalls::readiness(&seam) {
                reactor::sys::Readiness::Epoll => 1_000_000,
                reactor::sys::Readiness::Kqueue => 0,
            };
            match Reactor::new(seam, config.clone(), audited) {
                Ok(reactor) => {
                    return Ok(Member {
                        reactor,
                        thread,
                        process,
                        stopped: false,
                        asked,
                        config: config.clone(),
                        wait_rounding_ns,
                        progress: 0,
                        timers_fired: 0,
                        turns_empty: 0,
                        look_at: LOOK_EVERY_TURNS - 1,
                        oracles,
                        hears_of_whole_turns: false,
                        listener: None,
                    });
                }
                Err(_) => {
                    world.spend(thread, RETRY_NS);
                    let left = world.open_descriptors(process);
                    if left.len() != before {
                        let details = format!(
                            "a loop that could not be made left some open, of {before} before: {left:?}"
                        );
                        return Err(Breach::new("descriptor-ledger", details));
                    }
                }
            }
        }
        Err(Breach::new("turn-error", format!("a loop could not be made in {ATTEMPTS} attempts")))
    }

    /// Opens the listener.
    pub(super) fn listen(
        &mut self,
        world: &SharedWorld,
        address: SocketAddr,
        backlog: u32,
    ) -> Result<(), Breach> {
        const ATTEMPTS: u32 = 200;
        let options = ListenOptions { backlog, ..ListenOptions::default() };
        let mut last = Errno::EAGAIN;
        for _ in 0..ATTEMPTS {
            let before = world.open_descriptors(self.process).len();
            match self.reactor.listen(address, &options, 0) {
                Ok(listener) => {
                    self.listener = Some(listener);
                    return Ok(());
                }
                Err(error) => last = error,
            }
            world.spend(self.thread, RETRY_NS);
            if world.open_descriptors(self.process).len() != before {
                let details = "a listener that could not be made left its descriptor open".to_owned();
                return Err(Breach::new("descriptor-ledger", details));
            }
        }
        Err(Breach::new("turn-error", format!("a listener could not be made in {ATTEMPTS} attempts: {last}")))
    }

    /// Opens the listener at a port of the kernel's choice. Answers its address.
    pub(super) fn listen_anywhere(
        &mut self,
        address: SocketAddr,
        options: &ListenOptions,
    ) -> Result<SocketAddr, Breach> {
        let opened = self.reactor.listen(address, options, 0).and_then(|listener| {
            self.listener = Some(listener);
            self.reactor.local_address(listener)
        });
        opened.map_err(|error| Breach::new("turn-error", format!("a loop could not be made: {error}")))
    }

    pub(super) fn party(&self) -> &P {
        self.reactor.handler().party()
    }

    /// Lets the party begin; with `calm` it is told at once that there is no trouble.
    pub(super) fn begin(&mut self, calm: bool) {
        self.reactor.with(|audited, ctx| {
            audited.party_mut().begin(ctx);
            if calm {
                audited.party_mut().calm(ctx);
            }
        });
    }

    /// Tells the party that the trouble is over, and wakes the loop for that.
    pub(super) fn calm(&mut self) {
        self.reactor.with(|audited, ctx| audited.party_mut().calm(ctx));
        self.reactor.sender().notify();
    }

    /// Asks the loop to stop, and wakes it for that.
    pub(super) fn stop(&mut self) {
        self.reactor.stop(std::time::Duration::from_secs(40));
        self.reactor.sender().notify();
    }

    /// One turn, and the checks after it.
    pub(super) fn turn(&mut self, world: &SharedWorld) -> Result<Turn, Breach> {
        let turn = self.reactor.turn();
        if let Some(breach) = self.reactor.handler().breach() {
            return Err(breach.clone());
        }
        let turn = match turn {
            Ok(turn) => turn,
            Err(error) => {
                return Err(Breach::new(
                    "turn-error",
                    format!("a turn of thread {} failed: {error}", self.thread.0),
                ));
            }
        };
        if turn == Turn::Stopped {
            self.stopped = true;
            self.look(world)?;
            world.finish_thread(self.thread);
            return Ok(turn);
        }
        let counters = self.reactor.counters();
        let (turns, turns_empty, fired) = (counters.turns, counters.turns_empty, counters.timers_fired);
        let progress = fired + self.reactor.handler().calls();
        if progress != self.progress {
            self.progress = progress;
            world.note_progress(self.thread);
        }
        if !self.oracles || (self.hears_of_whole_turns && turn == Turn::Parked) {
            return Ok(turn);
        }
        // Timeouts are the loop's own doing: each must find something due (bug-catalogue B30, B57), but for those that
        // are cut to the longest that the call can express (B29).
        let cut = self.asked.timeout_ns().is_some_and(|ns| ns >= TIMEOUT_NS_MAX);
        if turns_empty > self.turns_empty && turn == Turn::Ran && world.has_timed_out(self.thread) && !cut {
            let details = "a wait slept until the timeout that the loop had asked for, and nothing was due";
            return Err(Breach::new("empty-wakeups", details.to_owned()));
        }
        self.turns_empty = turns_empty;
        self.check_fairness()?;
        let timer_budget_ended = fired - self.timers_fired >= u64::from(self.config.timers_per_turn);
        self.timers_fired = fired;
        let asleep = (turn == Turn::Parked && world.is_asleep(self.thread)).then(|| self.asked.timeout_ns());
        let (wait_rounding_ns, tick_ns) = (self.wait_rounding_ns, self.config.tick_ns);
        self.reactor.with(|audited, ctx| {
            let now = ctx.now();
            let facts = TurnFacts { now, timer_budget_ended, asleep, wait_rounding_ns, tick_ns };
            audited.party_mut().after_turn(facts);
            audited.check_closes(ctx, !timer_budget_ended);
        });
        if let Some(breach) = self.reactor.handler().breach() {
            return Err(breach.clone());
        }
        if turns >= self.look_at && turn == Turn::Ran {
            self.look_at = turns + LOOK_EVERY_TURNS.max(self.reactor.live() as u64);
            self.look(world)?;
        }
        Ok(turn)
    }

    /// No connection and no listener had more calls in a turn than its budget, so that all others get their turn
    /// (bug-catalogue B38, B90). What follows a wait counts up to the next.
    fn check_fairness(&self) -> Result<(), Breach> {
        let busiest = self.asked.busiest();
        let Config { reads_per_turn, accepts_per_turn, .. } = self.config;
        let limits = [
            (busiest.reads, reads_per_turn, "reads"),
            (busiest.accepts, accepts_per_turn.saturating_add(ACCEPTS_TO_SHED), "accepts"),
        ];
        for (calls, limit, what) in limits {
            if calls > limit {
                let details =
                    format!("{calls} {what} of one descriptor between two waits, where {limit} are allowed");
                return Err(Breach::new("starvation", details));
            }
        }
        Ok(())
    }

    /// Before the loop is told to stop, its listener is still there: no error of `accept(2)` may end it (bug-catalogue
    /// B21, B23).
    pub(super) fn check_listener(&self) -> Result<(), Breach> {
        match self.listener {
            Some(listener) if !self.reactor.is_live(listener) => {
                Err(Breach::new("listener-kept", format!("the listener {listener:?} is gone")))
            }
            _ => Ok(()),
        }
    }

    /// Looks at the structure of the whole loop.
    pub(super) fn look(&self, _: &SharedWorld) -> Result<(), Breach> {
        check_structure(|| self.reactor.assert_invariants())?;
        let queued = self.reactor.sender().queued();
        if queued > self.config.mailbox_messages_max {
            return Err(Breach::new("bounded-queue", format!("{queued} messages in the mailbox")));
        }
        check_timers(self.reactor.timer_counters(), self.reactor.timers_pending())
    }
}

/// Turns a failed assertion about a loop's structure into a breach.
///
/// # Errors
/// A breach of `bounded-queue`, when `assert` panics.
pub fn check_structure(assert: impl FnOnce()) -> Result<(), Breach> {
    let _inside = Inside::enter();
    panics::catch(assert).map_err(|message| Breach::new("bounded-queue", message))
}

/// Timers armed are fired, cancelled or pending.
///
/// # Errors
/// A breach of `timer-conservation`.
pub fn check_timers(counters: reactor::timer::TimerCounters, pending: usize) -> Result<(), Breach> {
    let reactor::timer::TimerCounters { armed, fired, cancelled, .. } = counters;
    if armed != fired + cancelled + pending as u64 {
        let details =
            format!("{armed} timers armed, {fired} fired, {cancelled} cancelled, {pending} pending");
        return Err(Breach::new("timer-conservation", details));
    }
    Ok(())
}
