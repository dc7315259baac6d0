//! The world of one run: hosts, threads, kernel objects, the event queue, and every decision. A plain value in one
//! thread; the handle to it is [`SharedWorld`].

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use reactor::time::Instant;

use crate::actor::{ActorId, ActorSlot};
use crate::clock::Clock;
use crate::decision::{Decisions, Domain, Site};
use crate::event::{EventKind, EventQueue};
use crate::fault::{FaultCounts, FaultKind, FaultSwitches};
use crate::incident::Incident;
use crate::kernel::Kernel;
use crate::kernel::close::Lingering;
use crate::kernel::description::Descriptions;
use crate::kernel::drift::Drift;
use crate::kernel::epoll::Epoll;
use crate::kernel::eventfd::{Eventfd, WakeInbox};
use crate::kernel::file::File;
use crate::kernel::handshake::Connection;
use crate::kernel::imposed::Imposed;
use crate::kernel::kqueue::Kqueue;
use crate::kernel::pipe::Pipe;
use crate::kernel::port::Ports;
use crate::kernel::process::Process;
use crate::kernel::ring::RingPool;
use crate::kernel::socket::Socket;
use crate::kernel::timerfd::Timerfd;
use crate::kernel::unix::Unix;
use crate::network::Network;
use crate::obligation::{Lapse, Ledger, ObligationCheck};
use crate::schedule::{RunQueue, Thread, ThreadId};
use crate::script::simulated::StartedWait;
use crate::slab::Slab;
use crate::trace::Trace;
use crate::violation::{Excuse, Violation};
use crate::weather::{Latency, Swarm, Weather};
use crate::work::WorkCount;

mod shared;

pub use shared::SharedWorld;
pub(crate) use shared::address_of_host;

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
    /// Times and room that decisions impose on one thread, for runs that follow a recording.
    pub imposed: Option<Imposed>,
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
            imposed: None,
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
    /// When the signal comes that a script has ordered.
    pub(crate) alarm: Option<u64>,
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
            trace: Trace::new(options.collect_trace, Instant::from_ns(swarm.clock_origin_ns)),
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
            alarm: None,
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
        if !self.swarm.applies(FaultKind::StillClock) && self.options.imposed.is_none() {
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
        let suppressed = self.swarm.is_suppressed(kind);
        if self.trace.collects() {
            self.show_fault(kind, entity, suppressed);
        }
        (!suppressed).then_some(details)
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
            EventKind::Room { socket, serial } => self.room_event(socket, serial),
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
