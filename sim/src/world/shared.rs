//! The handle to a world: what a run, its clients and its tests do with one from outside.

use std::cell::{Ref, RefCell, RefMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use reactor::sys::{EpollMask, Fd, Filter};
use reactor::time::Instant;

use super::{Host, HostId, ProcessId, World, WorldOptions};
use crate::actor::{Actor, ActorId, ActorSlot};
use crate::aftermath::Sleeper;
use crate::decision::log::ChoiceLog;
use crate::decision::{Decisions, Domain, Site};
use crate::event::EventKind;
use crate::fault::FaultCounts;
use crate::kernel::drift::Drift;
use crate::kernel::port::Ports;
use crate::kernel::process::Process;
use crate::kernel::syscalls::SimSyscalls;
use crate::kernel::{Kernel, Object};
use crate::obligation::ObligationCounts;
use crate::scene::Scene;
use crate::schedule::{Phase, Step, Thread, ThreadId};
use crate::trace::TraceEntry;
use crate::violation::{Excuse, Violation};
use crate::weather::Swarm;
use crate::work::Work;

/// The handle to a world; clones share it.
#[derive(Clone, Debug)]
pub struct SharedWorld {
    world: Rc<RefCell<World>>,
}

/// The address of the host with this number: known before the host is.
pub(crate) fn address_of_host(index: u32) -> Ipv4Addr {
    let [high, low] = [(index + 1) / 250, (index + 1) % 250].map(|part| part.min(255) as u8);
    Ipv4Addr::new(10, 0, high, low)
}

impl SharedWorld {
    /// A world without hosts. Unless the options hold one, the swarm is drawn first of all.
    pub fn new(options: WorldOptions, decisions: Decisions) -> SharedWorld {
        SharedWorld { world: Rc::new(RefCell::new(World::new(options, decisions))) }
    }

    /// Adds a host, with an address of its own and a first process. At most 62,500.
    pub fn add_host(&self, kernel: Kernel) -> HostId {
        let mut world = self.world.borrow_mut();
        let index = world.hosts.len() as u32;
        let (clock, retransmissions_max) =
            (world.draw_clock(index), world.draw_retransmissions(index, kernel));
        world.hosts.push(Host {
            kernel,
            ip: address_of_host(index),
            ports: Ports::default(),
            clock,
            retransmissions_max,
            up: true,
        });
        drop(world);
        self.add_process(HostId(index));
        HostId(index)
    }

    /// Starts another process on a host, without threads.
    pub fn add_process(&self, host: HostId) -> ProcessId {
        let mut world = self.world.borrow_mut();
        let process = world.processes.len() as u32;
        let limit = world.options.descriptor_limit;
        let highest_first = world.drifts(Drift::HighestDescriptor);
        world.processes.push(Process::new(host.0, limit, highest_first));
        ProcessId(process)
    }

    /// The process of this host that was started last.
    pub fn process_of(&self, host: HostId) -> ProcessId {
        ProcessId(self.world.borrow().newest_process(host.0))
    }

    /// The process that a thread belongs to.
    pub fn process_of_thread(&self, thread: ThreadId) -> ProcessId {
        ProcessId(self.world.borrow().threads[thread.0 as usize].process)
    }

    /// Adds a thread to the process of this host that was started last. It can run at once.
    pub fn add_thread(&self, host: HostId) -> SimSyscalls {
        self.add_thread_to(self.process_of(host))
    }

    /// Adds a thread to a process. It can run at once.
    pub fn add_thread_to(&self, process: ProcessId) -> SimSyscalls {
        let mut world = self.world.borrow_mut();
        let thread = world.threads.len() as u32;
        let now = world.now;
        let host = world.processes[process.0 as usize].host;
        world.threads.push(Thread::new(process.0, host, now));
        world.enqueue(thread);
        drop(world);
        self.calls_of(ThreadId(thread))
    }

    /// The calls that a thread can make.
    pub fn calls_of(&self, thread: ThreadId) -> SimSyscalls {
        let world = self.world.borrow();
        let process = &world.processes[world.threads[thread.0 as usize].process as usize];
        let kernel = world.hosts[process.host as usize].kernel;
        let imposed = world.options.imposed.is_some_and(|imposed| imposed.thread == thread.0);
        SimSyscalls::new(self.clone(), thread, kernel, Rc::clone(&process.dead), imposed)
    }

    /// Adds an actor, whose first step is due at `first`.
    pub fn add_actor(&self, actor: Box<dyn Actor>, first: Instant) -> ActorId {
        self.insert_actor(None, actor, first)
    }

    /// Adds an actor that is a thread of this process: it dies with it.
    pub fn add_actor_to(&self, process: ProcessId, actor: Box<dyn Actor>, first: Instant) -> ActorId {
        self.insert_actor(Some(process.0), actor, first)
    }

    fn insert_actor(&self, process: Option<u32>, actor: Box<dyn Actor>, first: Instant) -> ActorId {
        let mut world = self.world.borrow_mut();
        let index = world.actors.len() as u32;
        world.actors.push(ActorSlot { process, actor: Some(actor), serial: 0, queued: true });
        let time = world.time_of(first);
        world.queue_event(time, EventKind::Actor { actor: index, serial: 0 });
        ActorId(index)
    }

    /// Whether the thread's last wait slept until its timeout.
    pub fn has_timed_out(&self, thread: ThreadId) -> bool {
        self.world.borrow().threads[thread.0 as usize].timed_out
    }

    /// The thread makes no more calls.
    pub fn finish_thread(&self, thread: ThreadId) {
        let mut world = self.world.borrow_mut();
        let entry = &mut world.threads[thread.0 as usize];
        entry.phase = Phase::Finished;
        entry.sleep = None;
        entry.serial += 1;
    }

    /// Lets the world go on until somebody can run: applies what is queued in time order, and answers whose turn it is.
    /// A thread whose turn ended without sleeping can run again at its own time.
    pub fn step(&self, limit: Instant) -> Step {
        let mut world = self.world.borrow_mut();
        let limit = world.time_of(limit);
        if let Some(thread) = world.running.take() {
            let entry = &world.threads[thread as usize];
            if entry.phase == Phase::Running {
                if world.wakes.has_posts() {
                    world.now = world.threads[thread as usize].local;
                    world.deliver_wakes();
                }
                world.enqueue(thread);
            }
        }
        if world.wakes.has_posts() {
            world.deliver_wakes();
        }
        loop {
            if let Some(host) = world.restarts.pop_front() {
                // Two incidents may ask at one time, and calm weather starts everybody: one process is enough.
                if world.is_dead(world.newest_process(host.0)) {
                    return Step::Restart(host);
                }
                continue;
            }
            let event = world.events.next_time();
            let runnable = world.next_runnable();
            let next = match (event, runnable) {
                (None, None) => {
                    world.audit_idle();
                    return Step::Idle;
                }
                (Some(time), None) | (None, Some(time)) => time,
                (Some(event), Some(runnable)) => event.min(runnable),
            };
            if next > limit {
                return Step::LimitReached;
            }
            if runnable == Some(next) && event != Some(next) {
                let thread = world.take_runnable();
                let entry = &mut world.threads[thread.0 as usize];
                if entry.phase == Phase::Finished {
                    continue;
                }
                let process = entry.process as usize;
                if world.processes[process].frozen {
                    world.threads[thread.0 as usize].held = true;
                    continue;
                }
                world.now = next;
                world.running = Some(thread.0);
                return Step::Run(thread);
            }
            if let Some(actor) = world.apply_next_event() {
                drop(world);
                self.run_actor(actor);
                return Step::Actor(actor);
            }
        }
    }

    /// Begins a call: everything due by the caller's clock happens first, actors included.
    #[inline]
    pub(crate) fn enter(&self, thread: ThreadId) -> RefMut<'_, World> {
        let mut world = self.world.borrow_mut();
        if let Some(actor) = world.draw_early_actor(thread) {
            drop(world);
            self.run_actor(actor);
            world = self.world.borrow_mut();
        }
        loop {
            if world.wakes.has_posts() {
                world.now = world.threads[thread.0 as usize].local;
                world.deliver_wakes();
            }
            match world.reach(thread) {
                None => return world,
                Some(actor) => {
                    drop(world);
                    self.run_actor(actor);
                    world = self.world.borrow_mut();
                }
            }
        }
    }

    /// Makes an actor's step with the world at its time and not borrowed.
    pub(crate) fn run_actor(&self, actor: ActorId) {
        let (taken, time, now) = {
            let mut world = self.world.borrow_mut();
            let (time, now) = (world.now, world.clock(world.now));
            world.note(|| format!("actor {} runs", actor.0));
            (world.actors[actor.0 as usize].actor.take(), time, now)
        };
        let Some(mut taken) = taken else { return };
        let next = taken.step(now);
        let mut world = self.world.borrow_mut();
        world.now = time;
        if world.wakes.has_posts() {
            world.deliver_wakes();
        }
        if let Some(after_ns) = next {
            let process = world.actors[actor.0 as usize].process;
            if process.is_some_and(|process| world.is_dead(process)) {
                return;
            }
            let slot = &mut world.actors[actor.0 as usize];
            slot.actor = Some(taken);
            slot.queued = true;
            slot.serial += 1;
            let event = EventKind::Actor { actor: actor.0, serial: slot.serial };
            world.queue_event(time.saturating_add(after_ns.max(1)), event);
        }
    }

    /// Whether no close is waiting for its data to be sent, or not any more (T76).
    #[inline]
    pub(crate) fn has_lingered(&self) -> bool {
        let mut world = self.world.borrow_mut();
        world.lingering.is_none() || world.linger_ends()
    }

    /// The second phase of a run: faults stop, limits return, links heal, stopped processes go on, and ends whose other side failed alone are
    /// reset.
    pub fn calm_down(&self) {
        let mut world = self.world.borrow_mut();
        world.note(|| "the weather calms down".to_owned());
        world.swarm.calm_down();
        world.calm = true;
        world.network.heal();
        world.thaw_all();
        world.release_half_dead();
        for process in &mut world.processes {
            process.limit = process.limit_at_rest;
        }
    }

    /// The runner saw this thread do something that needs no call: run a timer, deliver a message.
    pub fn note_progress(&self, thread: ThreadId) {
        self.world.borrow_mut().progress(thread.0);
    }

    /// The thread was busy for this long without making a call: a handler that computes.
    pub fn spend(&self, thread: ThreadId, ns: u64) {
        self.world.borrow_mut().threads[thread.0 as usize].local += ns;
    }

    /// The thread sleeps in a call until this time.
    pub(crate) fn spend_until(&self, thread: ThreadId, time: u64) {
        let local = &mut self.world.borrow_mut().threads[thread.0 as usize].local;
        *local = time.max(*local);
    }

    /// Draws a decision of the workload's, or of the runner's.
    pub fn draw(&self, domain: Domain, site: Site, entity: u32, bound: u64) -> u64 {
        self.world.borrow_mut().decisions.draw(domain, site, entity, bound)
    }

    /// The address of a host.
    pub fn address(&self, host: HostId) -> Ipv4Addr {
        self.world.borrow().hosts[host.0 as usize].ip
    }

    /// The time of what was last done.
    pub fn now(&self) -> Instant {
        let world = self.world.borrow();
        world.clock(world.now)
    }

    /// A thread's own clock.
    pub fn local_time(&self, thread: ThreadId) -> Instant {
        let world = self.world.borrow();
        let entry = &world.threads[thread.0 as usize];
        world.hosts[entry.host as usize].clock.read(entry.local)
    }

    /// The chained hash of every call so far.
    pub fn trace_hash(&self) -> u64 {
        self.world.borrow().trace.hash()
    }

    /// How many calls have been made.
    pub fn steps(&self) -> u64 {
        self.world.borrow().trace.steps()
    }

    /// How much the kernel has worked: calls made, and elementary steps in and between them.
    pub fn work(&self) -> Work {
        let world = self.world.borrow();
        world.work.total(world.trace.steps())
    }

    /// The most connections that there were at once, those included that had ended and whose last segments were under way.
    pub fn connections_peak(&self) -> usize {
        self.world.borrow().connections.places()
    }

    /// The loops that sleep, and what they sleep through.
    pub fn sleepers(&self) -> Vec<Sleeper> {
        self.world.borrow().sleeping_loops()
    }

    /// Every decision made so far, if they are written down; they are not written down any more after that.
    pub fn take_choices(&self) -> Option<ChoiceLog> {
        self.world.borrow_mut().decisions.take_log()
    }

    /// The readable lines collected since the last take.
    pub fn take_trace(&self) -> Vec<TraceEntry> {
        self.world.borrow_mut().trace.take_lines()
    }

    /// What was collected beside the readable lines; nothing is collected after that.
    pub fn take_scene(&self) -> Option<Box<Scene>> {
        self.world.borrow_mut().take_scene()
    }

    /// Adds a line to the readable trace.
    pub fn note(&self, text: impl FnOnce() -> String) {
        self.world.borrow_mut().note(text);
    }

    /// The first invariant that was broken.
    pub fn violation(&self) -> Option<Violation> {
        self.world.borrow().violation.clone()
    }

    /// Reports a broken invariant; the first one is kept.
    pub fn violate(&self, invariant: &'static str, thread: ThreadId, details: String) {
        self.world.borrow_mut().violate(invariant, thread, details);
    }

    /// Why the stream between these two addresses may have ended early, if the world knows a reason.
    pub fn excuse(&self, local: SocketAddr, peer: SocketAddr) -> Option<Excuse> {
        match (local, peer) {
            (SocketAddr::V4(local), SocketAddr::V4(peer)) => {
                self.world.borrow().excuses.get(&(local, peer)).copied()
            }
            _ => None,
        }
    }

    /// How often each kind of fault happened.
    pub fn fault_counts(&self) -> FaultCounts {
        self.world.borrow().faults.clone()
    }

    /// How what the kernel owed came and went; nothing where it is not checked.
    pub fn obligation_counts(&self) -> ObligationCounts {
        self.world.borrow().ledger.as_ref().map(|ledger| ledger.counts).unwrap_or_default()
    }

    /// Looks at everything that the kernel owes; a forgotten debt is a violation.
    pub fn audit_obligations(&self) {
        self.world.borrow_mut().audit_all();
    }

    /// What the run drew from its weather.
    pub fn swarm(&self) -> Swarm {
        self.world.borrow().swarm.clone()
    }

    /// How many decisions this domain has made.
    pub fn decision_count(&self, domain: Domain) -> u64 {
        self.world.borrow().decisions.count(domain)
    }

    /// The descriptors that a process has open, beyond the three standard ones.
    pub fn open_descriptors(&self, process: ProcessId) -> Vec<Fd> {
        self.world.borrow().processes[process.0 as usize].open().map(|(fd, _)| fd).collect()
    }

    /// What an epoll instance has registered: descriptor, mask, data. Empty for anything else.
    pub fn epoll_interest(&self, process: ProcessId, epoll: Fd) -> Vec<(Fd, EpollMask, u64)> {
        let world = self.world.borrow();
        match world.processes[process.0 as usize].get(epoll) {
            Some(Object::Epoll(epoll)) => world.epolls[epoll].interest().collect(),
            _ => Vec::new(),
        }
    }

    /// What a kqueue has registered: identity, filter, whether delivery is enabled, user data. Empty for anything else.
    pub fn kqueue_interest(&self, process: ProcessId, kqueue: Fd) -> Vec<(u64, Filter, bool, u64)> {
        let world = self.world.borrow();
        match world.processes[process.0 as usize].get(kqueue) {
            Some(Object::Kqueue(kqueue)) => world.kqueues[kqueue].interest().collect(),
            _ => Vec::new(),
        }
    }

    /// Sets the descriptor limit of a process, the three standard ones included.
    pub fn set_descriptor_limit(&self, process: ProcessId, limit: usize) {
        let process = &mut self.world.borrow_mut().processes[process.0 as usize];
        process.limit = limit;
        process.limit_at_rest = limit;
    }

    /// Kills a process, as by SIGKILL. Its loops make no more calls, also when they are dropped.
    pub fn kill(&self, process: ProcessId) {
        self.world.borrow_mut().kill_process(process.0);
    }

    /// The host loses power. It stays silent until [`SharedWorld::boot`].
    pub fn crash(&self, host: HostId) {
        self.world.borrow_mut().crash_host(host.0);
    }

    /// A host that has lost power starts again; its processes are to be added anew.
    pub fn boot(&self, host: HostId) {
        self.world.borrow_mut().boot_host(host.0);
    }

    /// Nothing passes from one host to another, and with `both` nothing the other way, until [`SharedWorld::heal`]. A
    /// router tells who tries to connect that there is no way.
    pub fn partition(&self, from: HostId, to: HostId, both: bool) {
        self.world.borrow_mut().part(from.0, to.0, both, u64::MAX, true);
    }

    /// Nothing passes to or from a host, and nobody is told, until [`SharedWorld::heal`].
    pub fn black_hole(&self, host: HostId) {
        self.world.borrow_mut().swallow(host.0, u64::MAX);
    }

    /// Each byte from one host to another takes this long, behind those before it, until [`SharedWorld::heal`].
    pub fn narrow(&self, from: HostId, to: HostId, byte_ns: u64) {
        self.world.borrow_mut().narrow_link(from.0, to.0, byte_ns, u64::MAX);
    }

    /// Every link is as it should be again. What was lost is sent again in due time.
    pub fn heal(&self) {
        let mut world = self.world.borrow_mut();
        world.note(|| "every link is healed".to_owned());
        world.network.heal();
    }

    /// Sets how fast a host's clock runs: `rate` of its nanoseconds in a thousand of the world's, at least 1. To be set
    /// before the host has threads: a clock never goes back.
    pub fn set_clock_rate(&self, host: HostId, rate: u32) {
        self.world.borrow_mut().hosts[host.0 as usize].clock.rate = rate.max(1);
    }

    /// Stops every thread of a process, as by SIGSTOP.
    pub fn freeze(&self, process: ProcessId) {
        self.world.borrow_mut().freeze_process(process.0);
    }

    /// Lets a stopped process go on, as by SIGCONT.
    pub fn thaw(&self, process: ProcessId) {
        self.world.borrow_mut().thaw_process(process.0);
    }

    /// Whether the process has been killed, or its host has lost power since it began.
    pub fn is_dead(&self, process: ProcessId) -> bool {
        self.world.borrow().is_dead(process.0)
    }

    /// Changes the world, between calls.
    pub(crate) fn borrow_mut(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    /// Looks at the world.
    pub fn borrow(&self) -> Ref<'_, World> {
        self.world.borrow()
    }
}
