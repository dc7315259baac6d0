//! What happens to processes of clients on purpose: they are stopped and go on, or are killed and begun again.
//!
//! A process that is to be killed is stopped first, so that its connections can be listed while there are no new ones; the
//! services are told, and only then it dies. The streams of these connections may end anywhere, and nothing else may.

use std::collections::VecDeque;
use std::time::Duration;

use rustix::process::Signal;
use sim::decision::Decisions;
use sim::decision::seed::seed_of_run;
use sim::workload::WorkloadKind;

use super::grounds::Grounds;
use super::message::{Assignment, Order, Side};
use super::{Episode, Kept, Troupe};
use crate::Failure;
use crate::chaos::{Event, Ground, Kind, MemoryGroup, Schedule, Shape, Share, connections};
use crate::machine::Stopwatch;
use crate::run::episode::pause;

/// The schedule's own numbers of a seed.
const DRAWN_APART: u64 = 0x5709_0000;

/// How long a process may take to stop.
const STOPPED_WITHIN_NS: u64 = 2_000_000_000;

/// How long services may take to say that they know who is to be killed.
const EXCUSED_WITHIN_NS: u64 = 30_000_000_000;

/// Something that goes on for a while.
#[derive(Debug)]
struct UnderWay {
    event: Event,
    begun_ns: u64,
    /// For [`Kind::Stop`], the process that is stopped.
    serial: Option<u64>,
    /// What it struck so far; for [`Kind::Memory`], at how many looks there was too little. For a link, how many packets had
    /// waited before.
    count: u64,
}

/// A process that is about to be killed, and waits for the services to know.
#[derive(Debug)]
struct Doomed {
    serial: u64,
    event: Event,
    begun_ns: u64,
    connections: u64,
    /// How many services have not answered.
    missing: usize,
}

/// What is to happen to processes of one episode.
#[derive(Debug)]
pub(super) struct Trouble {
    events: VecDeque<Event>,
    under_way: Vec<UnderWay>,
    doomed: Option<Doomed>,
}

impl Trouble {
    /// What is drawn for this episode.
    pub(super) fn draw(episode: &Episode) -> Trouble {
        let mut events = VecDeque::new();
        if let (Some((options, _)), Some(load)) = (&episode.chaos, episode.load) {
            let mut decisions = Decisions::from_seed(seed_of_run(episode.seed, DRAWN_APART));
            let load = Duration::from_nanos(load.duration_ns);
            events.extend(Schedule::draw(&mut decisions, options, Share::Parent, load).events);
        }
        if episode.workload == WorkloadKind::Wake {
            // Its one listener is what the verdict is about: without it there is none.
            events.retain(|event| event.kind != Kind::Kill);
        }
        Trouble { events, under_way: Vec::new(), doomed: None }
    }

    /// A service knows who is about to be killed.
    pub(super) fn excused(&mut self) {
        if let Some(doomed) = &mut self.doomed {
            doomed.missing = doomed.missing.saturating_sub(1);
        }
    }

    /// Nothing more happens, and everybody goes on.
    pub(super) fn end(&mut self, processes: &mut [Kept], grounds: &Grounds) {
        self.events.clear();
        self.doomed = None;
        for under_way in self.under_way.drain(..) {
            relent(under_way.event, grounds);
        }
        for kept in processes.iter_mut().filter(|kept| kept.is_stopped) {
            kept.signal(Signal::CONT);
            kept.is_stopped = false;
        }
    }
}

impl Troupe<'_> {
    /// Does what is due.
    ///
    /// # Errors
    /// Machine: a process that is to follow one that was killed cannot be made. Liveness: a service does not answer.
    pub(super) fn make_trouble(&mut self) -> Result<(), Failure> {
        let now_ns = Stopwatch::now_ns();
        self.let_go_on(now_ns);
        self.kill_doomed(now_ns)?;
        // One death after the other: the answers of services are counted.
        while self.trouble.doomed.is_none() {
            let elapsed_ns = self.watch.ns();
            match self.trouble.events.front() {
                Some(event) if event.at_ns <= elapsed_ns => {}
                _ => return Ok(()),
            }
            if let Some(event) = self.trouble.events.pop_front() {
                self.begin_trouble(event, now_ns);
            }
        }
        Ok(())
    }

    fn happened(&self, event: Event, begun_ns: u64, touched: u64) {
        if let Some((_, chronicle)) = &self.episode.chaos {
            chronicle.happened(event, begun_ns, touched);
        }
    }

    fn begin_trouble(&mut self, event: Event, now_ns: u64) {
        if matches!(event.kind, Kind::Stop | Kind::Kill) {
            return self.stop(event, now_ns);
        }
        match strike(event, &self.grounds) {
            Ok(count) => {
                let under_way = UnderWay { event, begun_ns: now_ns, serial: None, count };
                self.trouble.under_way.push(under_way);
            }
            // It was to be had when the run began: nothing is struck, which the summary shows.
            Err(_) => self.happened(event, now_ns, 0),
        }
    }

    /// Stops a process of clients: for a while, or to be killed.
    fn stop(&mut self, event: Event, now_ns: u64) {
        let able: Vec<usize> = (0..self.processes.len())
            .filter(|&at| {
                let kept = &self.processes[at];
                kept.assignment.side == Side::Clients && kept.is_ready && !kept.has_ended && !kept.is_stopped
            })
            .collect();
        let chosen = able.get((event.number as usize + event.strength as usize) % able.len().max(1));
        let Some(kept) = chosen.map(|&at| &mut self.processes[at]) else {
            return self.happened(event, now_ns, 0);
        };
        if !kept.signal(Signal::STOP) {
            return self.happened(event, now_ns, 0);
        }
        kept.is_stopped = true;
        let serial = kept.serial;
        if event.kind != Kind::Kill {
            let under_way = UnderWay { event, begun_ns: now_ns, serial: Some(serial), count: 1 };
            return self.trouble.under_way.push(under_way);
        }
        let watch = Stopwatch::start();
        while !connections::is_stopped(kept.pid()) && watch.ns() < STOPPED_WITHIN_NS {
            pause(Duration::from_millis(1));
        }
        let Ok(addresses) = connections::of(kept.pid()) else {
            // Nobody could be told, so it lives.
            kept.signal(Signal::CONT);
            kept.is_stopped = false;
            return self.happened(event, now_ns, 0);
        };
        let connections = addresses.len() as u64;
        let order = Order::Killed(addresses);
        let mut missing = 0;
        for kept in self.processes.iter_mut().filter(|kept| kept.assignment.side == Side::Services) {
            kept.order(&order);
            missing += 1;
        }
        self.trouble.doomed = Some(Doomed { serial, event, begun_ns: now_ns, connections, missing });
    }

    /// What went on long enough is over.
    fn let_go_on(&mut self, now_ns: u64) {
        if let Some(memory) = &self.grounds.memory {
            for squeeze in self.trouble.under_way.iter_mut().filter(|deed| deed.event.kind == Kind::Memory) {
                squeeze.count += u64::from(memory.is_short());
            }
        }
        let is_over = |deed: &UnderWay| now_ns >= deed.begun_ns + deed.event.duration_ns;
        let (over, going): (Vec<UnderWay>, Vec<UnderWay>) =
            std::mem::take(&mut self.trouble.under_way).into_iter().partition(is_over);
        self.trouble.under_way = going;
        for UnderWay { event, begun_ns, serial, count } in over {
            let goes_on = self.trouble.under_way.iter().any(|other| other.event.kind == event.kind);
            let stopped = self.processes.iter_mut().find(|kept| Some(kept.serial) == serial);
            if let Some(kept) = stopped {
                kept.signal(Signal::CONT);
                kept.is_stopped = false;
                kept.heard_ns = now_ns;
            }
            let touched = match event.kind {
                Kind::Stop => count,
                // Another one of its kind has it now, and tells.
                _ if goes_on => 0,
                Kind::Memory => count + relent(event, &self.grounds),
                _ => relent(event, &self.grounds).saturating_sub(count),
            };
            self.happened(event, begun_ns, touched);
        }
    }

    /// Kills who is to be killed, when all services know, and begins another one in its place.
    fn kill_doomed(&mut self, now_ns: u64) -> Result<(), Failure> {
        let Some(Doomed { serial, event, begun_ns, connections, missing }) = self.trouble.doomed else {
            return Ok(());
        };
        if missing > 0 {
            if now_ns.saturating_sub(begun_ns) > EXCUSED_WITHIN_NS {
                let seconds = EXCUSED_WITHIN_NS / 1_000_000_000;
                return Err(Failure::Liveness(format!(
                    "{missing} processes of services have not taken note of a kill within {seconds} s"
                )));
            }
            return Ok(());
        }
        self.trouble.doomed = None;
        let Some(at) = self.processes.iter().position(|kept| kept.serial == serial) else { return Ok(()) };
        let mut kept = self.processes.remove(at);
        kept.kill();
        self.episode.roster.ended(self.episode.workload, kept.entry);
        self.happened(event, begun_ns, connections.max(1));
        let Assignment { number, incarnation, ref loops, .. } = kept.assignment;
        self.start(Side::Clients, number, incarnation + 1, loops.clone())
    }
}

/// How a link is slowed down by an event of this kind and strength.
fn shape_of(event: Event) -> Shape {
    match event.kind {
        Kind::Netem => Shape::Late { delay_ms: event.strength },
        _ => Shape::Rate { kilobits_per_s: 100_000 / event.strength.clamp(1, 100) },
    }
}

fn held_back(ends: [&Ground; 2]) -> u64 {
    ends.into_iter().map(Ground::held_back).sum()
}

/// Begins something that is done to where processes are; what has been counted of it before.
fn strike(event: Event, grounds: &Grounds) -> Result<u64, String> {
    let missing = || "there is no such ground".to_owned();
    let weakness = 100 - event.strength.clamp(1, 100);
    match event.kind {
        Kind::Ports => {
            let ports = u32::try_from(1 + weakness / 4).unwrap_or(1);
            grounds.of(Side::Clients).ok_or_else(missing)?.limit_ports(Some(ports))?;
        }
        Kind::Memory => grounds.memory.as_ref().ok_or_else(missing)?.squeeze(weakness)?,
        _ => {
            let ends = grounds.link().ok_or_else(missing)?;
            let before = held_back(ends);
            for end in ends {
                end.shape(shape_of(event))?;
            }
            return Ok(before);
        }
    }
    Ok(0)
}

/// Ends it; what has been counted of it by now.
fn relent(event: Event, grounds: &Grounds) -> u64 {
    match event.kind {
        Kind::Ports => {
            let widened = grounds.of(Side::Clients).map(|ground| ground.limit_ports(None));
            u64::from(matches!(widened, Some(Ok(()))))
        }
        Kind::Memory => {
            grounds.memory.iter().for_each(MemoryGroup::release);
            0
        }
        Kind::Link | Kind::Netem => grounds.link().map_or(0, |ends| {
            ends.iter().for_each(|end| end.unshape(shape_of(event)));
            held_back(ends)
        }),
        _ => 0,
    }
}
