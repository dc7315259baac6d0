//! The world of one run: hosts, threads, kernel objects, the event queue, and every decision. A plain value in one
//! thread; the handle to it is [`SharedWorld`].

use std::cell::{Ref, RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;

use reactor::sys::{EpollMask, Fd, Filter};
use reactor::time::Instant;

use crate::actor::{Actor, ActorId, ActorSlot};
use crate::clock::Clock;
use crate::decision::{Decisions, Domain, Site};
use crate::event::{EventKind, EventQueue};
use crate::fault::{FaultCounts, FaultKind, FaultSwitches};
use crate::incident::Incident;
use crate::kernel::close::Lingering;
use crate::kernel::description::Descriptions;
use crate::kernel::drift::Drift;
use crate::kernel::epoll::Epoll;
use crate::kernel::eventfd::{Eventfd, WakeInbox};
use crate::kernel::file::File;
use crate::kernel::handshake::Connection;
use crate::kernel::kqueue::Kqueue;
use crate::kernel::pipe::Pipe;
use crate::kernel::port::Ports;
use crate::kernel::process::Process;
use crate::kernel::ring::RingPool;
use crate::kernel::socket::Socket;
use crate::kernel::syscalls::SimSyscalls;
use crate::kernel::timerfd::Timerfd;
use crate::kernel::unix::Unix;
use crate::kernel::{Kernel, Object};
use crate::network::Network;
use crate::obligation::{Lapse, Ledger, ObligationCheck, ObligationCounts};
use crate::schedule::{Phase, RunQueue, Step, Thread, ThreadId};
use crate::script::simulated::StartedWait;
use crate::slab::Slab;
use crate::trace::{Trace, TraceEntry};
use crate::violation::{Excuse, Violation};
use crate::weather::{Latency, Swarm, Weather};
use crate::work::{Work, WorkCount};

/// Names a host of a world.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostId(pub u32);

/// Names a process of a world.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ProcessId(pub u32);

/// What a world is made with.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// What the swarm is drawn from.
    pub weather: Weather,
    /// The swarm itself; `None` draws it.
    pub swarm: Option<Swarm>,
    /// The kernel of every host, where they all have the same: what is illegal under it is then never on.
    pub kernel: Option<Kernel>,
    /// What is fixed about the faults of a swarm that is drawn.
    pub switches: FaultSwitches,
    /// Latency between hosts; `None` leaves it to the swarm.
    pub latency: Option<Latency>,
    /// Capacity of every send and receive buffer, in bytes; `None` leaves it to the swarm.
    pub buffer_bytes: Option<u64>,
    /// Descriptors of a process, the three standard ones included.
    pub descriptor_limit: usize,
    /// A way in which the kernel differs from Linux on purpose, for tests of the comparison with the live kernel.
    pub drift: Option<Drift>,
    /// Whether the kernel checks what it owes.
    pub obligations: ObligationCheck,
    /// A debt that is forgotten on purpose, to show that the check sees it.
    pub lapse: Option<Lapse>,
    /// Whether readable lines are kept, for [`SharedWorld::take_trace`].
    pub collect_trace: bool,
}

impl Default for WorldOptions {
    fn default() -> WorldOptions {
        WorldOptions {
            weather: Weather::Default,
            swarm: None,
            kernel: None,
            switches: FaultSwitches::default(),
            latency: None,
            buffer_bytes: None,
            descriptor_limit: 65_536,
            drift: None,
            obligations: ObligationCheck::Never,
            lapse: None,
            collect_trace: false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) kernel: Kernel,
    pub(crate) ip: Ipv4Addr,
    pub(crate) ports: Ports,
    pub(crate) clock: Clock,
    /// How often a segment is sent again before its connection times out.
    pub(crate) retransmissions_max: u32,
    /// Whether it has power.
    pub(crate) up: bool,
}

/// Everything of one run.
#[derive(Debug)]
pub struct World {
    pub(crate) options: WorldOptions,
    /// The time of what is being done, in nanoseconds since the start of the run.
    pub(crate) now: u64,
    pub(crate) decisions: Decisions,
    pub(crate) swarm: Swarm,
    pub(crate) faults: FaultCounts,
    pub(crate) trace: Trace,
    pub(crate) ledger: Option<Box<Ledger>>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) processes: Vec<Process>,
    pub(crate) threads: Vec<Thread>,
    pub(crate) run_queue: RunQueue,
    /// The thread that was last given a turn.
    running: Option<u32>,
    pub(crate) events: EventQueue,
    pub(crate) sockets: Slab<Socket>,
    pub(crate) connections: Slab<Connection>,
    pub(crate) epolls: Slab<Epoll>,
    pub(crate) kqueues: Slab<Kqueue>,
    pub(crate) eventfds: Slab<Eventfd>,
    pub(crate) pipes: Slab<Pipe>,
    pub(crate) timerfds: Slab<Timerfd>,
    pub(crate) unixes: Slab<Unix>,
    pub(crate) files: Slab<File>,
    pub(crate) descriptions: Descriptions,
    /// Waits that a script has started on other threads.
    pub(crate) started_waits: Vec<StartedWait>,
    actors: Vec<ActorSlot>,
    pub(crate) incidents: Vec<Incident>,
    /// Hosts whose driver is to be asked for a process.
    pub(crate) restarts: VecDeque<HostId>,
    pub(crate) deaths: u64,
    /// The trouble is over.
    pub(crate) calm: bool,
    pub(crate) wakes: Arc<WakeInbox>,
    pub(crate) network: Network,
    pub(crate) excuses: BTreeMap<(SocketAddrV4, SocketAddrV4), Excuse>,
    /// A close that waits for its data to be acknowledged (T76).
    pub(crate) lingering: Option<Lingering>,
    /// Memory that no stream needs now.
    pub(crate) rings: RingPool,
    pub(crate) work: WorkCount,
    violation: Option<Violation>,
    serials: u64,
}

/// Draws the details of a fault that happens.
pub(crate) struct Details<'a> {
    decisions: &'a mut Decisions,
    kind: FaultKind,
    entity: u32,
}

impl Details<'_> {
    /// One detail, below `bound`; zero is the mildest.
    pub(crate) fn draw(&mut self, site: &'static str, bound: u64) -> u64 {
        self.decisions.draw(self.kind.domain(), Site(site), self.entity, bound)
    }

    /// One of several outcomes; the first is the mildest.
    pub(crate) fn choose<T: Copy>(&mut self, site: &'static str, outcomes: &[T]) -> T {
        outcomes[self.draw(site, outcomes.len() as u64) as usize]
    }
}

impl World {
    fn new(options: WorldOptions, mut decisions: Decisions) -> World {
        let mut swarm = match &options.swarm {
            Some(swarm) => swarm.clone(),
            None => Swarm::draw(options.weather, options.kernel, options.switches, &mut decisions),
        };
        if let Some(latency) = options.latency {
            swarm.latency = latency;
        }
        // These two are not events of a run but properties of it: counted once.
        let mut faults = FaultCounts::of_run(swarm.on());
        for kind in [FaultKind::ClockLimits, FaultKind::StillClock] {
            if swarm.is_on(kind) {
                faults.add(kind);
            }
        }
        let network = Network::new(&swarm);
        World {
            trace: Trace::new(options.collect_trace),
            ledger: options.obligations.is_on().then(Box::default),
            options,
            now: 0,
            decisions,
            swarm,
            faults,
            hosts: Vec::new(),
            processes: Vec::new(),
            threads: Vec::new(),
            run_queue: RunQueue::default(),
            running: None,
            events: EventQueue::default(),
            sockets: Slab::default(),
            connections: Slab::default(),
            epolls: Slab::default(),
            kqueues: Slab::default(),
            eventfds: Slab::default(),
            pipes: Slab::default(),
            timerfds: Slab::default(),
            unixes: Slab::default(),
            files: Slab::default(),
            descriptions: Descriptions::default(),
            started_waits: Vec::new(),
            actors: Vec::new(),
            incidents: Vec::new(),
            restarts: VecDeque::new(),
            deaths: 0,
            calm: false,
            wakes: Arc::default(),
            network,
            excuses: BTreeMap::new(),
            lingering: None,
            rings: RingPool::default(),
            work: WorkCount::default(),
            violation: None,
            serials: 0,
        }
    }

    /// A time of the run on the clock that processes see.
    #[inline]
    pub(crate) fn clock(&self, time: u64) -> Instant {
        Instant::from_ns(time.saturating_add(self.swarm.clock_origin_ns))
    }

    /// What the clock of a thread's host reads, at the time of what is being done.
    #[inline]
    pub(crate) fn clock_of(&self, thread: u32) -> Instant {
        self.hosts[self.threads[thread as usize].host as usize].clock.read(self.now)
    }

    /// A clock that is right, unless the run has others.
    fn draw_clock(&mut self, host: u32) -> Clock {
        let right = Clock { origin_ns: self.swarm.clock_origin_ns, rate: Clock::PER };
        let wrong = |details: &mut Details<'_>| {
            let faster = details.choose("rate of a clock", &[1, -1, 10, -10, 100, -100]);
            (faster, details.draw("seconds that a clock is ahead", 3_600))
        };
        match self.fault_with(FaultKind::HostClocks, host, wrong) {
            Some((faster, seconds)) => Clock {
                origin_ns: right.origin_ns.saturating_add(seconds * 1_000_000_000),
                rate: Clock::PER.saturating_add_signed(faster),
            },
            None => right,
        }
    }

    /// How often this host sends again in vain: as its system does by default, or as it was told to.
    fn draw_retransmissions(&mut self, host: u32, kernel: Kernel) -> u32 {
        let most = if kernel.is_bsd() { 12 } else { 15 };
        let barriers = [FaultKind::Partitions, FaultKind::OneWayPartitions, FaultKind::BlackHoles];
        if !barriers.into_iter().any(|kind| self.swarm.is_on(kind)) {
            return most;
        }
        let choices = [most, 8, 5, 3];
        let site = Site("retransmissions at most");
        let which = self.decisions.draw(Domain::Network, site, host, choices.len() as u64);
        choices[which as usize]
    }

    pub(crate) fn time_of(&self, clock: Instant) -> u64 {
        clock.as_ns().saturating_sub(self.swarm.clock_origin_ns)
    }

    #[inline]
    pub(crate) fn kernel_of(&self, thread: u32) -> Kernel {
        self.hosts[self.threads[thread as usize].host as usize].kernel
    }

    pub(crate) fn next_serial(&mut self) -> u64 {
        self.serials += 1;
        self.serials
    }

    pub(crate) fn host_at(&self, ip: Ipv4Addr) -> Option<u32> {
        let [_, _, high, low] = ip.octets();
        let index = (u32::from(high) * 250 + u32::from(low)).checked_sub(1)?;
        (self.hosts.get(index as usize)?.ip == ip).then_some(index)
    }

    /// Charges the calling thread.
    #[inline]
    pub(crate) fn spend(&mut self, thread: u32, ns: u64) {
        if !self.swarm.applies(FaultKind::StillClock) {
            self.threads[thread as usize].local += ns;
        }
    }

    /// Whether this kind of trouble happens here and now; drawn only if the run has the kind. For kinds without details
    /// that are legal under every kernel.
    #[inline]
    pub(crate) fn fault(&mut self, kind: FaultKind, entity: u32) -> bool {
        self.swarm.is_on(kind) && self.draw_fault(kind, entity, |_| ()).is_some()
    }

    /// As [`World::fault`], for kinds that only some kernels have: never under another, also where hosts differ.
    #[inline]
    pub(crate) fn fault_under(&mut self, kernel: Kernel, kind: FaultKind, entity: u32) -> bool {
        self.swarm.is_on(kind)
            && kind.is_legal_under(kernel)
            && self.draw_fault(kind, entity, |_| ()).is_some()
    }

    /// As [`World::fault`], with the details of what happens. All of a fault's decisions are drawn in `details`, so that
    /// a run in which the kind is suppressed makes the same ones.
    #[inline]
    pub(crate) fn fault_with<T>(
        &mut self,
        kind: FaultKind,
        entity: u32,
        details: impl FnOnce(&mut Details<'_>) -> T,
    ) -> Option<T> {
        if self.swarm.is_on(kind) { self.draw_fault(kind, entity, details) } else { None }
    }

    fn draw_fault<T>(
        &mut self,
        kind: FaultKind,
        entity: u32,
        details: impl FnOnce(&mut Details<'_>) -> T,
    ) -> Option<T> {
        let rate = self.swarm.rate(kind);
        if !self.decisions.chance(kind.domain(), Site(kind.name()), entity, rate) {
            return None;
        }
        self.faults.add(kind);
        let details = details(&mut Details { decisions: &mut self.decisions, kind, entity });
        (!self.swarm.is_suppressed(kind)).then_some(details)
    }

    #[inline]
    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.trace.collects() {
            let at = self.clock(self.now);
            self.trace.note(at, text());
        }
    }

    pub(crate) fn violate(&mut self, invariant: &'static str, thread: ThreadId, details: String) {
        if self.violation.is_none() {
            let at = self.clock(self.now);
            self.note(|| format!("violation of {invariant}: {details}"));
            let step = self.trace.steps();
            self.violation = Some(Violation { invariant, at, step, thread, details });
        }
    }

    #[inline]
    pub(crate) fn queue_event(&mut self, time: u64, kind: EventKind) {
        let tie = self.draw_tie();
        self.work.descend(self.events.len());
        self.events.push(time, tie, kind);
    }

    #[inline]
    pub(crate) fn queue_connection_event(&mut self, connection: u32, time: u64, kind: EventKind) {
        self.connections[connection].events += 1;
        self.queue_event(time, kind);
    }

    /// Applies the next event; an actor that is due is answered, since it runs while the world is not borrowed.
    fn apply_next_event(&mut self) -> Option<ActorId> {
        self.work.descend(self.events.len());
        let event = self.events.pop()?;
        self.now = event.time;
        match event.kind {
            EventKind::Segment { stream, end } => self.segment_event(stream, end),
            EventKind::Acknowledgement { stream } => self.acknowledgement_event(stream),
            EventKind::Retransmission { stream } => self.retransmission_event(stream),
            EventKind::Reset { stream } => self.reset_event(stream),
            EventKind::Syn { connection, attempt } => self.syn_event(connection, attempt),
            EventKind::SynAck { connection } => self.syn_ack_event(connection),
            EventKind::HandshakeAck { connection } => self.handshake_ack_event(connection),
            EventKind::ConnectFailed { connection, error } => self.connect_failed_event(connection, error),
            EventKind::Deadline { thread } => self.deadline_event(thread),
            EventKind::Interrupt { thread, serial } => self.interrupt_event(thread, serial),
            EventKind::StallOver { thread, serial } => self.stall_over_event(thread, serial),
            EventKind::Timerfd { timerfd, serial } => self.timerfd_event(timerfd, serial),
            EventKind::KnoteTimer { kqueue, item, serial } => self.knote_timer_event(kqueue, item, serial),
            EventKind::Incident { number } => self.incident_event(number),
            EventKind::BarrierFalls => self.barrier_falls_event(),
            EventKind::LimitRises { process } => self.limit_rises_event(process),
            EventKind::Actor { actor, serial } => {
                let slot = &mut self.actors[actor as usize];
                if slot.serial == serial && slot.actor.is_some() {
                    slot.queued = false;
                    return Some(ActorId(actor));
                }
            }
        }
        None
    }

    /// When the next thing happens that is queued by now.
    pub(crate) fn next_event_time(&self) -> Option<u64> {
        self.events.next_time()
    }

    /// What is due by the caller's clock happens inside its call: on loopback a packet is handled by its sender.
    pub(crate) fn deliver_due(&mut self, thread: u32) {
        let local = self.threads[thread as usize].local;
        while self.events.next_is_due(local) {
            self.apply_next_event();
        }
        self.now = local;
    }

    /// Brings the world up to a thread's clock; stops at an actor that is due.
    #[inline]
    fn reach(&mut self, thread: ThreadId) -> Option<ActorId> {
        let local = self.threads[thread.0 as usize].local;
        while self.events.next_time().is_some_and(|time| time <= local) {
            if let Some(actor) = self.apply_next_event() {
                return Some(actor);
            }
        }
        self.now = local;
        None
    }

    /// The actor that a decision lets run early, now: another thread of the process.
    #[inline]
    pub(crate) fn draw_early_actor(&mut self, thread: ThreadId) -> Option<ActorId> {
        if self.actors.is_empty() || !self.swarm.is_on(FaultKind::EarlyActors) {
            return None;
        }
        self.work.add(self.actors.len());
        let queued = self.actors.iter().filter(|slot| slot.queued).count();
        if queued == 0 {
            return None;
        }
        let which = self.fault_with(FaultKind::EarlyActors, thread.0, |details| {
            details.draw("which actor", queued as u64)
        })?;
        self.take_early_actor(thread, which as usize)
    }

    /// The threads of a killed process that are no reactors are gone too.
    pub(crate) fn drop_actors_of(&mut self, process: u32) {
        for slot in self.actors.iter_mut().filter(|slot| slot.process == Some(process)) {
            slot.actor = None;
            slot.queued = false;
            slot.serial += 1;
        }
    }

    fn take_early_actor(&mut self, thread: ThreadId, which: usize) -> Option<ActorId> {
        let mut queued = (0..self.actors.len() as u32).filter(|&actor| self.actors[actor as usize].queued);
        let actor = queued.nth(which)?;
        let slot = &mut self.actors[actor as usize];
        slot.queued = false;
        slot.serial += 1;
        self.now = self.threads[thread.0 as usize].local;
        Some(ActorId(actor))
    }
}

/// The handle to a world; clones share it.
#[derive(Clone, Debug)]
pub struct SharedWorld {
    world: Rc<RefCell<World>>,
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
        let [high, low] = [(index + 1) / 250, (index + 1) % 250].map(|part| part.min(255) as u8);
        let (clock, retransmissions_max) =
            (world.draw_clock(index), world.draw_retransmissions(index, kernel));
        world.hosts.push(Host {
            kernel,
            ip: Ipv4Addr::new(10, 0, high, low),
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
        SimSyscalls::new(self.clone(), thread, kernel, Rc::clone(&process.dead))
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
                return Step::Restart(host);
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

    /// The readable lines collected since the last take.
    pub fn take_trace(&self) -> Vec<TraceEntry> {
        self.world.borrow_mut().trace.take_lines()
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
